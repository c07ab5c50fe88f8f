"""What this rank is doing: written on the way of a step, read by the watch."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Activity"]


class Activity:
    """Where this rank is. Writing costs nothing.

    doing: in words. step: the optimizer step. count: phases entered; all ranks enter the same ones in the same order,
    so a lower count is behind. signs: of life, between phases too. long: the phase may take as long as a start.
    folder: for the beats of all ranks; None until they agree on the run directory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.doing = "starting"
        self.step = self.count = self.signs = 0
        self.long = True

    def enter(self, doing: str, *, step: int | None = None, long: bool = True) -> None:
        """A new phase begins."""
        self.doing, self.long = doing, long
        self.step = self.step if step is None else step
        self.count += 1
        self.signs += 1

    def alive(self) -> None:
        """The phase goes on; ranks may call this at different times."""
        self.signs += 1
