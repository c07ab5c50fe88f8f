"""The host as its own first plugin: commands, callbacks, trackers, and a toy model family."""

__all__: list[str] = []
