"""Equiscope: few-shot equivariant microscopy at cluster scale."""

import os

__version__ = "0.1.0"

# Tensors of one forward pass after the other in pages of 2 MB: with those of 4 kB the system
# spends a fifth of the time on handing them out. Torch asks when it first takes memory.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
