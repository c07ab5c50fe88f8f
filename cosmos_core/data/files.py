"""The files below a folder of data."""

from __future__ import annotations

import os
from os.path import isdir
from pathlib import Path, PurePath

from cosmos_core.data.prepared import RECORD

__all__ = ["files_below", "followed", "is_hidden"]


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


def followed(path: Path) -> Path:
    """Absolute, and where links lead, but by its own name where that has another ending.

    The Hub's cache keeps files under names without an ending, and links with their names to them.
    """
    target = Path(os.path.realpath(path))
    has_its_ending = target.suffix.lower() == path.suffix.lower()
    return target if has_its_ending else Path(os.path.realpath(path.parent), path.name)


def is_hidden(path: PurePath) -> bool:
    """Whether a part of a relative path begins with a dot."""
    return any(part.startswith(".") for part in path.parts)
