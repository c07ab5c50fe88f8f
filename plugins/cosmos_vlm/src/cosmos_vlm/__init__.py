"""Cosmos 3 reasoner (Qwen3-VL) for cosmos."""

__all__ = ["__version__"]

__version__ = "0.1.0"
