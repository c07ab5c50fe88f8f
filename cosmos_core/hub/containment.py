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
    resolved = path.resolve()
    inside = Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root))
    if not (inside and any(resolved.is_relative_to(home) for home in _homes(root))):
        raise ValueError(f"{path} lies outside of {root}")
    return resolved


def _homes(root: Path) -> list[Path]:
    """Where the contents of `root` may lie: there, and for a snapshot in the Hub cache among its blobs."""
    home = root.resolve()
    caches = [above.parent / BLOBS for above in home.parents if above.name == SNAPSHOTS]
    return [home, *caches[:1]]
