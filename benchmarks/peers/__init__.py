"""Peers of Equiscope, trained from scratch on the same shots, each in a process of its own.

They live in an environment of their own, which `INSTALL` makes: the product needs none of them.
A peer's module runs there and imports nothing but that environment, this package and numpy;
`benchmarks.peers.runner` starts it, and hands images over as files (`benchmarks.peers.exchange`).
"""

INSTALL = (
    "python3 -m venv .venv-peers && "
    ".venv-peers/bin/pip install --requirement benchmarks/peers/requirements.txt"
)
