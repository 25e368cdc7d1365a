"""Equiscope: few-shot equivariant microscopy at cluster scale."""

__version__ = "0.1.0"
