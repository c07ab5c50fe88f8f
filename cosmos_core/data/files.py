"""The files below a folder of data."""

from __future__ import annotations

import os
from os.path import isdir
from pathlib import Path, PurePath

from cosmos_core.data.prepared import RECORD

__all__ = ["files_below", "is_hidden"]


def files_below(root: Path) -> list[Path]:
    """Every file below a folder, sorted; none of what is no folder.

    Hidden ones are left out, and datasets that were prepared inside it. Links to folders are followed;
    a folder that is reached twice is read once.
    """
    if not isdir(root):  # Also a name that no folder can have.
        return []
    files: list[Path] = []
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen or (RECORD in names and Path(folder) != root):
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += (Path(folder, name) for name in names if not name.startswith("."))
    return sorted(path for path in files if path.is_file())


def is_hidden(path: PurePath) -> bool:
    """Whether a part of a relative path begins with a dot."""
    return any(part.startswith(".") for part in path.parts)
