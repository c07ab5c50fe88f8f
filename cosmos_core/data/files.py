"""The files below a folder of data."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from os.path import isdir
from pathlib import Path, PurePath

from cosmos_core.data.prepared import RECORD
from cosmos_core.errors import Problem, UserError

__all__ = ["check_links", "files_below", "followed", "is_hidden", "stand_in"]

HEAD = 64
STAND_INS = {
    "a Git LFS pointer, not the file; `git lfs pull` fetches it": re.compile(rb"version https://git-lfs\."),
    "a web page, as of a failed download; fetch the file again": re.compile(rb"\s*<(!doctype )?html", re.IGNORECASE),
}
"""What lies in place of a file, by its first bytes."""
MAX_PROBLEMS = 10
"""Links that one error lists."""


def files_below(root: Path) -> list[Path]:
    """Every file below a folder, sorted; none of what is no folder.

    Hidden ones are left out, and datasets that were prepared inside it. Links to folders are followed;
    a folder that is reached twice is read once. Links that lead nowhere are files, for `check_links`.
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
    return sorted(path for path in files if path.is_file() or _leads_nowhere(path))


def check_links(files: Iterable[Path]) -> None:
    """Raises UserError for links that lead nowhere: what they stand for would be lost without a word."""
    broken = [path for path in files if _leads_nowhere(path)]
    problems = [
        Problem(
            message=f"there is nothing at {os.readlink(path)}",
            file=str(path),
            hint="mount or fetch it, or remove the link",
        )
        for path in broken[:MAX_PROBLEMS]
    ]
    rest = len(broken) - MAX_PROBLEMS
    if broken:
        more = [Problem(message=f"and {rest} more")] if rest > 0 else []
        raise UserError("links lead nowhere; nothing was started", [*problems, *more])


def stand_in(source: Path | bytes) -> str | None:
    """What lies in place of a file that is not what its name says, and what to do; None for anything else."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            source = file.read(HEAD)
    found = source[:HEAD]
    return next((words for words, pattern in STAND_INS.items() if pattern.match(found)), None)


def _leads_nowhere(path: Path) -> bool:
    return os.path.islink(path) and not os.path.exists(path)


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
