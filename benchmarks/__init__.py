"""Measurements of Equiscope. `python -m benchmarks --help` lists them.

Each is one module that `registry.BENCHMARKS` names. It offers `add_arguments(parser)` and
`measure(options)`, which returns a `measurement.Measurement`; its docstring's first line is what
`--help` says of it.
"""
