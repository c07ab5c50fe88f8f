"""The files of a subset in a local copy, and where its images are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from os.path import exists, isdir, isfile
from pathlib import Path

from attrs import frozen

from cosmos_core.data.files import check_links, files_below, followed
from cosmos_core.errors import Problem, UserError
from cosmos_vlm.data.tables import JSON, PARQUET, holds_records

__all__ = ["LocalCopy", "local_copy"]

logger = logging.getLogger(__name__)

KEY = "dataloader_train.dataset"
MAX_NAMES = 8


@frozen
class LocalCopy:
    """root: the configured folder; no image may lie outside it.

    home: root, or the subset's folder in it. files: with rows, sorted.
    """

    root: Path
    home: Path
    files: tuple[str, ...]

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where media are looked up."""
        return (self.home,) if self.home == self.root else (self.home, self.root)


def local_copy(path: str, subset: str | None) -> LocalCopy:
    """A file of rows, or the Parquet files below a folder, or its JSON files if it has no Parquet file.

    If the folder has one named `subset`, only that is searched.

    Raises UserError when there are none, and when several folders hold files but none is named after the subset.
    """
    root = followed(Path(path)) if exists(path) else Path(path)
    if isfile(root):
        if root.suffix.lower() not in (PARQUET, *JSON):
            raise UserError(f"{root} is no Parquet, JSON or JSONL file; nothing was started")
        return LocalCopy(root.parent, root.parent, (str(root),))
    home = root / subset if subset and isdir(root / subset) else root
    files = (_parquet(home) or list(_json(home))) if isdir(home) else []
    if not files:
        raise UserError(f"no Parquet or JSON file of rows below {home}; nothing was started")
    if subset and home == root:
        _check_not_several(root, subset, files)
    return LocalCopy(root, home, tuple(str(file) for file in files))


def _parquet(home: Path) -> list[Path]:
    return _files(home, (PARQUET,))


def _json(home: Path) -> Iterator[Path]:
    """JSON files with rows. Others, such as a description of the dataset, are skipped with a warning."""
    for file in _files(home, JSON):
        if holds_records(file):
            yield file
        else:
            logger.warning("skipped %s: it is not a list of records", file)


def _files(home: Path, endings: Sequence[str]) -> list[Path]:
    files = [file for file in files_below(home) if file.suffix.lower() in endings]
    check_links(files)
    return files


def _check_not_several(root: Path, subset: str, files: list[Path]) -> None:
    """Raises UserError when files lie in several folders: a mixture of subsets is hardly what was meant."""
    places = [file.relative_to(root).parts for file in files]
    folders = sorted({parts[0] for parts in places if len(parts) > 1})
    if len(folders) < 2:
        return
    names = ", ".join(folders[:MAX_NAMES])
    problem = Problem(
        message=f"{root} holds {len(folders)} folders with rows, none named '{subset}'",
        key=f"{KEY}.subset",
        hint=f"one of {names}; or give one of the folders as {KEY}.path",
    )
    raise UserError("it is not clear which part of the local copy is meant; nothing was started", [problem])
