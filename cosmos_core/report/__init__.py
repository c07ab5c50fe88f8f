"""What became of runs: their state, their metrics, how they differ, and the page that shows it all."""

__all__: list[str] = []
