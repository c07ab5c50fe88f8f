"""Paths that a downloaded file names: they stay inside of the folder it lies in."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["contained"]

SNAPSHOTS, BLOBS = "snapshots", "blobs"


def contained(path: Path, root: Path) -> Path:
    """`path` without links and dots. Raises ValueError when it leads out of `root`, by its words or by a link.

    A snapshot in the Hub cache is made of links to the same repository's blobs; those are followed.
    """
    resolved, home = path.resolve(), root.resolve()
    if resolved.is_relative_to(home) or (_named_inside(path, root) and resolved.is_relative_to(_blobs(home))):
        return resolved
    raise ValueError(f"{path} lies outside of {root}")


def _named_inside(path: Path, root: Path) -> bool:
    """Whether the words alone lead into `root`."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))


def _blobs(home: Path) -> Path:
    """Where the links of a snapshot in the Hub cache lead; for other folders nowhere else than there."""
    return next((above.parent / BLOBS for above in home.parents if above.name == SNAPSHOTS), home)
