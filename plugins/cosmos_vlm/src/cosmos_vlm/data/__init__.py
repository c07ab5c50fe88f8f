"""Datasets of the reasoner."""

__all__: list[str] = []
