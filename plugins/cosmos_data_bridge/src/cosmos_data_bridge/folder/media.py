"""The folder `media` of a prepared dataset: copied clips, and those unpacked from tars and tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from attrs import frozen

from cosmos_core.names import path_fault

__all__ = ["MediaFolder"]


@frozen
class MediaFolder:
    """Files have the time of what they come from, so that one that is there already can be told from one cut short."""

    root: Path

    def place(self, name: str, size: int, changed: int, write: Callable[[Path], object]) -> Path:
        """The file of that name below the folder; written unless it is there.

        name: a relative path without `..`. size, changed: bytes and time in nanoseconds that it has when it is whole.
        Raises ValueError for a name that no file can have.
        """
        target = self.root / name
        if fault := path_fault(str(target)):
            raise ValueError(f"the name {name!r:.80} {fault}")
        if target.is_file() and (target.stat().st_size, target.stat().st_mtime_ns) == (size, changed):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target)
        os.utime(target, ns=(changed, changed))
        return target

    def remove_others(self, files: Collection[Path]) -> None:
        """Remove every file but these, and folders without files."""
        for path in sorted(self.root.rglob("*"), reverse=True):
            if path.is_file() and path not in files:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if self.root.is_dir() and not files:
            self.root.rmdir()
