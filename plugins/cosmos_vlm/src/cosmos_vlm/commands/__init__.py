"""Commands of this plugin."""

__all__: list[str] = []
