"""What a source holds: a folder with sidecars, a table, or a folder with a table in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_data_bridge.folder.entries import Entry, unique
from cosmos_data_bridge.folder.sidecars import sidecars
from cosmos_data_bridge.folder.tables import TABLES, is_table, table
from cosmos_data_bridge.folder.tars import is_tar

__all__ = ["Source", "list_entries"]

METADATA = tuple(f"metadata{suffix}" for suffix in TABLES)
"""Tables that describe the folder they lie in, as Hugging Face's image and video folders have them."""


@frozen
class Source:
    """Where clips are listed. path_column, caption_column: of a table; looked for when None."""

    path: Path
    path_column: str | None = None
    caption_column: str | None = None


def list_entries(source: Source, tell: Callable[[str], None] = lambda line: None) -> list[Entry]:
    """All clips of a source, in the order of their keys. tell: is given what was guessed. Raises UserError."""
    path = source.path
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if is_tar(path):
        hint = "`cosmos data prepare folder SOURCE -o OUT --copy` unpacks them"
        raise UserError(
            "clips are read from files", [Problem(message="its clips are in tars", file=str(path), hint=hint)]
        )
    described = next((path / name for name in METADATA if (path / name).is_file()), None)
    if described is None and path.is_dir():
        return unique(sidecars(path))
    file = described or path
    if not is_table(file):
        problem = Problem(message=f"neither a folder nor a table ({', '.join(TABLES)}) nor a tar", file=str(file))
        raise UserError("this source cannot be read", [problem])
    entries, columns = table(file, source.path_column, source.caption_column)
    if columns.guessed:
        tell(f"{file}: paths from column '{columns.path}', captions from column '{columns.caption}'")
    return unique(entries)
