"""Finds runs: those below a folder, and the one that a path or a name means."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean

__all__ = ["find_run", "find_runs", "folder_or_run", "run_called", "run_names", "tell_passed_over"]

logger = logging.getLogger(__name__)

DEPTH = 3
"""Folders between an output root and a run: project, group, name."""
LISTED = "`cosmos runs list ROOT` shows the runs below a folder"


def _is_run(folder: Path) -> bool:
    """Whether a launch has been in this folder."""
    return any((folder / name).exists() for name in ("launches", "metrics.jsonl", "config.toml"))


def find_runs(root: Path) -> Iterator[Path]:
    """Run directories in an output root, or in a part of one, in the order of their names; `root` itself if it is."""
    yield from _runs(root, DEPTH)


def _runs(folder: Path, depth: int) -> Iterator[Path]:
    if _is_run(folder):
        yield folder
    elif depth:
        try:
            inner = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        except OSError:
            return
        for path in inner:
            yield from _runs(Path(path), depth - 1)


def find_run(text: str, root: Path) -> Path:
    """The run that a path names, or that has this name below `root`. Raises UserError when there is none or several."""
    if _is_run(Path(text)):
        return Path(text)
    run = run_called(text, root)
    if run is not None:
        return run
    nearest = did_you_mean(text, run_names(root))
    fault = "is no run" if Path(text).is_dir() else "there is no such folder"
    problem = Problem(message=f"{fault}, and no run of that name is below {root}", file=text, hint=nearest or LISTED)
    raise UserError(f"{text} is no run", [problem])


def folder_or_run(text: str, root: Path) -> Path:
    """A folder of any kind, or the run of this name below `root`. Raises UserError when it is neither."""
    return Path(text) if os.path.isdir(text) else find_run(text, root)


def run_called(text: str, root: Path) -> Path | None:
    """The run of this name below `root`; None when there is none. Raises UserError when there are several."""
    same = _called(text, root)
    if len(same) > 1:
        places = ", ".join(map(str, same))
        raise UserError(f"several runs are called {text}", [Problem(message=places, hint="give the path of one")])
    return same[0] if same else None


def tell_passed_over(text: str, root: Path, taken: str) -> None:
    """Log the runs of this name below `root`, where it means something else as well. taken: what it was taken for."""
    if same := _called(text, root):
        places = " or ".join(map(str, same))
        logger.warning("%s is %s and also a run; the run is left aside: give %s to take it", text, taken, places)


def _called(text: str, root: Path) -> list[Path]:
    name = text.rstrip("/")  # Shells complete it with one.
    return [path for path in _below(root) if name in (str(path.relative_to(root)), path.name)]


def run_names(root: Path) -> list[str]:
    """What the runs below `root` may be called."""
    runs = _below(root)
    return [*(str(path.relative_to(root)) for path in runs), *(path.name for path in runs)]


def _below(root: Path) -> list[Path]:
    return [path for path in find_runs(root) if path != root]
