"""Checks that paths named in downloaded files stay inside their folder."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["contained"]

SNAPSHOTS, BLOBS = "snapshots", "blobs"


def contained(path: Path, root: Path) -> Path:
    """`path` resolved. Raises ValueError when it is outside `root`, by `..` or by a symbolic link.

    A snapshot in the Hub cache consists of links to the repository's blobs; those are allowed.
    """
    resolved, home = path.resolve(), root.resolve()
    if resolved.is_relative_to(home) or (_named_inside(path, root) and resolved.is_relative_to(_blobs(home))):
        return resolved
    raise ValueError(f"{path} is outside {root}")


def _named_inside(path: Path, root: Path) -> bool:
    """Whether the path is inside `root` before links are followed."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))


def _blobs(home: Path) -> Path:
    """The blobs that a Hub snapshot's links lead to; for any other folder, the folder itself."""
    return next((above.parent / BLOBS for above in home.parents if above.name == SNAPSHOTS), home)
