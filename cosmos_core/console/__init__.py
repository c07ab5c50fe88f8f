"""What people see while something runs: log lines, lines that stay at the bottom of a terminal, progress."""

from cosmos_core.console.task_progress import Progress, progress
from cosmos_core.console.terminal import show

__all__ = ["Progress", "progress", "show"]
