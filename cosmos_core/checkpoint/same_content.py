"""A checkpoint that is written again while it is read: the reader gets an error, never parts of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.manifest import MANIFEST

__all__ = ["SameContent"]


class SameContent:
    """What a part of a checkpoint, such as ``model/``, held when this was made. For `reading` any number of times.

    A run that went back writes steps again, whoever reads them. Each save writes a manifest of its own; without one,
    nothing is compared.
    """

    def __init__(self, folder: Path) -> None:
        self._checkpoint = folder.parent
        self._before = self._manifest()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raises UserError when the checkpoint was written again before the end, whatever else is wrong."""
        try:
            yield
        except UserError:
            self._check()
            raise
        self._check()

    def _check(self) -> None:
        now = self._manifest()
        if now is None or now == self._before:
            return
        hint = "run the same command again"
        problem = Problem(message="its run wrote it again while it was read", file=str(self._checkpoint), hint=hint)
        raise UserError("the checkpoint was replaced; nothing was loaded", [problem]) from None

    def _manifest(self) -> tuple[int, int] | None:
        """Its time and size: some file systems give folders new numbers all the time."""
        try:
            facts = (self._checkpoint / MANIFEST).stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size
