"""Built-in callbacks."""

__all__: list[str] = []
