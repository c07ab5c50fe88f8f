"""Checks that paths named in downloaded files and in datasets stay inside the folders where they may lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from cosmos_core.errors import ONE_DATASET
from cosmos_core.names import path_fault

__all__ = ["OutsidePath", "contained", "find_media"]

SNAPSHOTS, BLOBS = "snapshots", "blobs"


class OutsidePath(ValueError):
    """A path that leaves its folder. target: where it leads."""

    def __init__(self, message: str, target: Path) -> None:
        super().__init__(message)
        self.target = target


def contained(path: Path, root: Path, allowed: Iterable[Path] = ()) -> Path:
    """`path` resolved. Raises OutsidePath when it leads out of `root` and all `allowed` folders, by `..` or by a link.

    Raises ValueError for what no file can be called. A snapshot in the Hub cache consists of links to the repository's
    blobs; those are allowed.
    """
    fault = path_fault(str(path))
    if fault:
        raise ValueError(f"{str(path)!r} {fault}")
    try:
        resolved = path.resolve()
    except RuntimeError:
        raise ValueError(f"{path} is a link that leads back to itself") from None
    if any(_is_inside(path, resolved, folder) for folder in (root, *allowed)):
        return resolved
    link = _first_link(path)
    name = path if link is None or not _named_inside(path, root) else f"the link {link}"
    raise OutsidePath(f"{name} leads to {resolved}, which is outside {root}", resolved)


def find_media(text: str, folder: Path, root: Path, media_roots: Iterable[str]) -> Path:
    """The file that a dataset's record names, relative to `folder`; resolved.

    root: the dataset's folder. media_roots: other folders that its files may lie in. Raises ValueError, also for a
    pipe or a device, which might be read forever. The message names a key as `in_table` takes it.
    """
    try:
        path = contained(folder / text, root, map(Path, media_roots))
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is a pipe or a device")
        return path
    except OutsidePath as error:
        parent = json.dumps([str(error.target.parent)], ensure_ascii=False)
        raise OutsidePath(f"{error}; {ONE_DATASET}.media_roots = {parent} allows it", error.target) from None


def _is_inside(path: Path, resolved: Path, root: Path) -> bool:
    home = Path(os.path.realpath(root))
    return resolved.is_relative_to(home) or (_named_inside(path, root) and resolved.is_relative_to(_blobs(home)))


def _named_inside(path: Path, root: Path) -> bool:
    """Whether the path is inside `root` before links are followed."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root))


def _first_link(path: Path) -> Path | None:
    """The innermost part of the path that is a symbolic link."""
    return next((part for part in (path, *path.parents) if part.is_symlink()), None)


def _blobs(home: Path) -> Path:
    """The blobs that a Hub snapshot's links lead to; for any other folder, the folder itself."""
    return next((above.parent / BLOBS for above in home.parents if above.name == SNAPSHOTS), home)
