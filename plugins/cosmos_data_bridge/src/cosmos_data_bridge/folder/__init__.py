"""Clips and captions of your own: listed, measured, split, and written as a dataset that `bridge` reads."""

__all__: list[str] = []
