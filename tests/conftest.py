"""What holds for all tests."""

from hypothesis import settings

# Machines that run tests are shared: how long a case takes says nothing.
settings.register_profile("shared", deadline=None, derandomize=True)
settings.load_profile("shared")
