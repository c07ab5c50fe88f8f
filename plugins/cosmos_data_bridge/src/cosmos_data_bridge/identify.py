"""Which dataset reads the clips at a path."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from cosmos_core.config.document import read_document
from cosmos_core.config.env import lookup
from cosmos_core.config.interpolate import interpolate
from cosmos_core.config.merge import value_at
from cosmos_core.data.files import files_below, followed
from cosmos_core.data.first_row import ROW_FILES, first_fields
from cosmos_core.errors import UserError
from cosmos_data_bridge.folder.recipe import RECIPE
from cosmos_data_bridge.folder.rows import column_names
from cosmos_data_bridge.folder.sidecars import MEDIA
from cosmos_data_bridge.folder.tables import tables_of
from cosmos_data_bridge.folder.tars import tars_of

__all__ = ["dataset_of", "validation_of"]

MANIFEST = Path("train", "video_dataset_file.jsonl")
VALIDATION = "val"
"""The split of a prepared folder that training validates on."""
OF_THE_CLIPS = ("media_roots", "min_window_frames")
"""Options that hold for a prepared folder under any recipe."""
DATASET = ("dataloader_train", "dataset")
"""Their table."""
DIALOGS = frozenset(("messages", "conversations", "response"))
"""Fields of rows that are dialogs, which are no captions."""


def dataset_of(path: Path) -> dict[str, Any] | None:
    """The dataset's table, with all of the clips; None for other data.

    Raises UserError for a table whose first row cannot be read.
    """
    if (path / MANIFEST).is_file():
        return _manifest(path / MANIFEST)
    folder = {"type": "folder", "path": str(followed(path)), "validation": 0.0}
    tables = tables_of(path, lambda line: None)
    if tables:
        fields = (
            first_fields(tables[0]) if tables[0].suffix.lower() in ROW_FILES else frozenset(column_names(tables[0]))
        )
        if path.suffix.lower() == ".jsonl" and "vision_path" in fields and fields & {"uuid", "t2w_windows"}:
            return _manifest(path)
        return None if fields & DIALOGS else folder
    return folder if tars_of(path) or _has_clips(path) else None


def validation_of(path: Path) -> dict[str, Any]:
    """What reads the validation split of a prepared folder; nothing where it has none, or for other data."""
    manifest = path / VALIDATION / MANIFEST.name
    has_split = (path / MANIFEST).is_file() and manifest.is_file() and manifest.stat().st_size
    return {"split": VALIDATION} if has_split else {}


def _manifest(file: Path) -> dict[str, Any]:
    """With what a prepared folder's recipe says of its clips. Raises UserError for a broken recipe."""
    file = followed(file)
    root = file.parents[1]
    table = {"type": "bridge", "path": str(root), "split": file.parent.name, "jsonl": file.name}
    if not (root / RECIPE).is_file():
        return table
    recipe = read_document(root / RECIPE)
    options = value_at(recipe.values, DATASET)
    of_the_clips = {name: value_at(options, (name,)) for name in OF_THE_CLIPS if value_at(options, (name,)) is not None}
    values = {"dataloader_train": {"dataset": of_the_clips}}
    values, problems = interpolate(values, recipe.provenance, lookup, datetime.now())
    if problems:
        raise UserError("the recipe of a prepared folder cannot be read", problems)
    return {**table, **value_at(values, DATASET)}


def _has_clips(folder: Path) -> bool:
    """Whether there are clips, and no files of rows but those that caption them."""
    files = files_below(folder)
    clips = {path.with_suffix("") for path in files if path.suffix.lower() in MEDIA}
    return bool(clips) and all(path.with_suffix("") in clips for path in files if path.suffix.lower() in ROW_FILES)
