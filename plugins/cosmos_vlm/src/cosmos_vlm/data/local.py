"""Which files of a local copy make up a subset, and where its pictures lie."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_vlm.data.tables import JSON, PARQUET, holds_records

__all__ = ["LocalCopy", "local_copy"]

logger = logging.getLogger(__name__)

KEY = "dataloader_train.dataset"
SHOWN = 8


@frozen
class LocalCopy:
    """root: the folder that was given, which no picture may lie outside of. home: root, or the subset's folder in it.
    files: of rows, sorted."""

    root: Path
    home: Path
    files: tuple[str, ...]

    def find(self, stored: str) -> Path:
        """A picture's place: below `home`, or else below `root`."""
        near = self.home / stored
        return near if near.exists() else self.root / stored


def local_copy(path: str, subset: str) -> LocalCopy:
    """Parquet files below a folder, or its JSON files where there are none; of a folder of subsets only those of
    `subset`.

    Raises UserError when there are none, and when several folders hold some but none is called like the subset.
    """
    root = Path(path).resolve()
    home = root / subset if (root / subset).is_dir() else root
    found = _parquet(home) or list(_json(home))
    if not found:
        raise UserError(f"no Parquet or JSON file of rows below {home}; nothing was started")
    if home == root:
        _refuse_several(root, subset, found)
    return LocalCopy(root, home, tuple(str(file) for file in found))


def _parquet(home: Path) -> list[Path]:
    return sorted(file for file in home.rglob(f"*{PARQUET}") if file.is_file())


def _json(home: Path) -> Iterator[Path]:
    """What holds no rows, such as a description of the dataset, is named and left out."""
    for file in sorted(file for file in home.rglob("*") if file.suffix in JSON and file.is_file()):
        if holds_records(file):
            yield file
        else:
            logger.warning("left out %s: it is no list of records", file)


def _refuse_several(root: Path, subset: str, files: list[Path]) -> None:
    """Nobody means a mixture of subsets without saying so."""
    places = [file.relative_to(root).parts for file in files]
    folders = sorted({parts[0] for parts in places if len(parts) > 1})
    if len(folders) < 2:
        return
    shown = ", ".join(folders[:SHOWN])
    problem = Problem(
        message=f"{root} holds {len(folders)} folders of rows, none of which is called '{subset}'",
        key=f"{KEY}.subset",
        hint=f"one of {shown}; or give one of the folders as {KEY}.path",
    )
    raise UserError("which part of the local copy is meant is not clear; nothing was started", [problem])
