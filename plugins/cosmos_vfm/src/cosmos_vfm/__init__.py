"""Cosmos 3 generator (T2V, I2V, V2V) for cosmos."""

__all__ = ["__version__"]

__version__ = "0.1.0"
