"""One file a command."""

__all__: list[str] = []
