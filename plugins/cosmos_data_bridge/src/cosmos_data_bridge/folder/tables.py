"""Clips and captions in tables: paths of files, or the files themselves as a Hugging Face dataset holds them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any
from unicodedata import normalize

from attrs import frozen

from cosmos_core.console import progress
from cosmos_core.data.files import check_links, files_below
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import path_fault
from cosmos_core.strict_json import loads
from cosmos_data_bridge.folder.entries import RANGES, Entry, caption_fields, key_of, no_problems
from cosmos_data_bridge.folder.media import MediaFolder
from cosmos_data_bridge.folder.rows import COLUMNAR, TABLES, Row, column_names, rows

__all__ = ["METADATA", "Columns", "Tables", "tables_of"]

PATHS = ("vision_path", "path", "file_name", "file", "filename", "video", "video_path", "image", "image_path", "media")
TEXTS = ("caption_json", "caption", "text", "prompt", "description")
"""Names of columns that are looked for, in this order."""
PARTS = "write a manifest (docs/data.md, Captioned clips), or remove them where captions are of whole clips"
DIALOGS = "; rows of dialogs have messages, conversations, or query and response (docs/data.md, Dialogs)"
METADATA = tuple(f"metadata{suffix}" for suffix in TABLES)
"""Tables that describe the folder they lie in, as Hugging Face's image and video folders have them."""
SPLIT = re.compile(r"(train|validation|valid|val|dev|test|eval)(?![a-z])")
"""How the folders and files of a dataset's splits begin."""


@frozen
class Columns:
    """The columns that hold clips and captions. guessed: whether one of them was not named."""

    path: str
    caption: str
    guessed: bool


@frozen
class Tables:
    """Tables of one source. root: its folder. path, caption: names of columns; looked for when None."""

    files: tuple[Path, ...]
    root: Path
    path: str | None = None
    caption: str | None = None

    def columns(self, file: Path) -> Columns:
        """The columns to read: the named ones, else the first known name. Raises UserError for one that is absent."""
        names = column_names(file)
        if not names:
            raise UserError(f"{file} has no rows")
        if fault := _parts_fault(names):
            raise UserError("a table cannot be used", [Problem(message=fault, file=str(file), line=1, hint=PARTS)])
        columns, absent = list[str](), list[Problem]()
        for kind, named, known in (("path", self.path, PATHS), ("caption", self.caption, TEXTS)):
            column = named or next((name for name in known if name in names), None)
            if column is None or column not in names:
                looked_for = named or ", ".join(known)
                option, key = f"--{kind}-column NAME", f"dataloader_train.dataset.{kind}_column"
                problem = Problem(
                    message=f"no column for the {kind}: looked for {looked_for}; it has {', '.join(names)}",
                    file=str(file),
                    line=1,
                    hint=f"{option} ({key}) names it{DIALOGS if kind == 'path' else ''}",
                )
                absent.append(problem)
                continue
            if names.count(column) > 1:
                message, hint = f"{names.count(column)} columns are called '{column}'", "rename or remove the others"
                problem = Problem(message=message, file=str(file), line=1, hint=hint)
                raise UserError("it is not clear which column is meant", [problem])
            columns.append(column)
        if absent:
            raise UserError("a column is missing", absent)
        return Columns(columns[0], columns[1], self.path is None or self.caption is None)

    def hold_clips(self) -> bool:
        """Whether a row holds a clip itself and not its path. Raises UserError."""
        columns = ((file, self.columns(file).path) for file in self.files if file.suffix.lower() in COLUMNAR)
        values = (row.get(column) for file, column in columns for _, row in rows(file, [column]))
        # A column of texts holds no clips; few rows without a clip come before the first with one.
        value = next((value for value in values if isinstance(value, str) or _content(value) is not None), None)
        return _content(value) is not None

    def entries(self, tell: Callable[[str], None], media: MediaFolder | None = None) -> list[Entry]:
        """Every row. Relative paths begin at the table's folder, or at the source's. Raises UserError with all lines.

        tell: is given what was guessed. media: where clips that rows hold are written.
        """
        problems: list[Problem] = []
        entries: list[Entry] = []
        count = 0
        with progress("reading", len(self.files), "tables") as reading:
            for file in self.files:
                columns = self.columns(file)
                if columns.guessed and file == self.files[0]:
                    tell(f"{file}: paths from column '{columns.path}', captions from column '{columns.caption}'")
                for line, row in rows(file, [columns.path, columns.caption]):
                    count += 1
                    try:
                        entries.append(self._entry(file, line, row, columns, media))
                    except ValueError as error:
                        problems.append(Problem(message=str(error), file=str(file), line=line))
                reading.advance()
        if not count:
            raise UserError(f"{self.files[0]} has no rows")
        no_problems(problems, f"{len(problems)} of {count} rows cannot be used")
        return entries

    def _entry(self, file: Path, line: int, row: Row, columns: Columns, media: MediaFolder | None) -> Entry:
        # Rows of JSONL have fields of their own.
        if fault := _parts_fault([name for name in row if row[name] is not None]):
            raise ValueError(f"{fault}; {PARTS}")
        captions = _captions(row, columns)
        value = row.get(columns.path)
        data = _content(value)
        if data is None:
            path = self._path(file, value.get("path") if isinstance(value, Mapping) else value, columns.path)
            return Entry(key_of(path, self.root), path, captions, str(path), str(file), line)
        if media is None:
            raise ValueError("it holds the clip itself; `cosmos data prepare folder SOURCE -o OUT --copy` unpacks it")
        key = f"{key_of(file, self.root)}/{line:06d}"
        suffix = PurePath(value.get("path") or "").suffix if isinstance(value, Mapping) else ""
        path = media.place(
            f"{key}{suffix}", len(data), file.stat().st_mtime_ns, lambda target: target.write_bytes(data)
        )
        return Entry(key, path, captions, f"{file}, row {line}", str(file), line)

    def _path(self, file: Path, text: Any, column: str) -> Path:
        if not isinstance(text, str) or not text:
            raise ValueError(f"column '{column}' holds no path: {text!r:.80}")
        if "://" in text:
            raise ValueError(f"'{text}' is an address; only files are read")
        if fault := path_fault(str(file.parent / text)):
            raise ValueError(f"the path {text!r:.80} {fault}")
        # A letter with an accent may be written in two ways, as Macs do.
        forms = dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text)))
        places = (place / form for form in forms for place in (file.parent, self.root))
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            slashes = "; folders are separated by / here" if "\\" in text else ""
            raise ValueError(f"no such file: {file.parent / text}{slashes}")
        return path


def tables_of(source: Path, tell: Callable[[str], None]) -> tuple[Path, ...]:
    """A table; that of a folder called metadata; or the Parquet or Arrow files below it, of one split. Else none.

    tell: is given the splits that are not read. Raises UserError when it is not clear which split is meant.
    """
    if not source.is_dir():
        return (source,) if source.suffix.lower() in TABLES else ()
    described = tuple(source / name for name in METADATA if (source / name).is_file())
    if len(described) > 1:
        message = f"it has {' and '.join(path.name for path in described)}"
        problem = Problem(message=message, file=str(source), hint="give one of them, or remove the others")
        raise UserError("it is not clear which table is meant", [problem])
    if described:
        return described
    by_split: dict[str, list[Path]] = defaultdict(list)
    files = [path for path in files_below(source) if path.suffix.lower() in COLUMNAR]
    check_links(files)
    for path in files:
        by_split[_split(path.relative_to(source))].append(path)
    if len(by_split) > 1:
        names = ", ".join(sorted(filter(None, by_split)))
        if "train" not in by_split:
            problem = Problem(message=f"it has the splits {names}", file=str(source), hint="give one of their folders")
            raise UserError("it is not clear which split is meant", [problem])
        tell(f"{source}: reading the split 'train' of {names}; give another one's folder or file to read that")
    return tuple(by_split.get("train") or next(iter(by_split.values()), ()))


def _split(path: Path) -> str:
    """The split that a file belongs to, by its own name or that of a folder; "" if neither tells."""
    matches = (SPLIT.match(part.lower()) for part in reversed(path.parts))
    return next((match.group(1) for match in matches if match), "")


def _parts_fault(names: Iterable[str]) -> str:
    ranges = [name for name in names if name in RANGES]
    return f"has {' and '.join(ranges)}: captions of parts of a clip are not read from a table" if ranges else ""


def _content(value: Any) -> bytes | None:
    """The bytes of a file in a row, as `datasets` stores videos and images; None for a path."""
    data = value.get("bytes") if isinstance(value, Mapping) else value
    return data if isinstance(data, bytes) and data else None


def _captions(row: Row, columns: Columns) -> dict[str, Any]:
    caption = row.get(columns.caption)
    if caption is None or caption == "":
        raise ValueError(f"column '{columns.caption}' is empty")
    if columns.caption == "caption_json" and isinstance(caption, str):
        try:
            caption = loads(caption)
        except ValueError as error:
            raise ValueError(f"column 'caption_json' is not JSON: {error}") from None
    return caption_fields(caption)
