"""What holds for all tests, and what several files of them begin from."""

from pathlib import Path

import campaigns
import pytest
from filelock import FileLock
from hypothesis import settings

# Machines that run tests are shared: how long a case takes says nothing.
settings.register_profile("shared", deadline=None, derandomize=True)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A campaign that ran to its end without a break. Tests copy it, and leave it as it is.

    Tests run in several processes: the first that asks makes it, for all.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    with FileLock(shared / "finished.lock"):
        return campaigns.finished(shared / "finished")
