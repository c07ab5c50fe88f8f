"""Sinks for metrics."""

__all__: list[str] = []
