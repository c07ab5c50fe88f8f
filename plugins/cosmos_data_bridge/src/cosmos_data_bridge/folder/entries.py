"""A listed clip, before its file is measured, and the problems of a listing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.data.jsonl import CALLED
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import text_fault
from cosmos_data_bridge.captions import FIELDS, check_captions

__all__ = ["RANGES", "Entry", "caption_fields", "key_of", "no_problems", "unique"]

RANGES = ("start_frame", "end_frame", "temporal_interval", "t2w_windows")
"""Fields and columns that say of which frames a caption is."""
MAX_PROBLEMS = 10
"""Problems that one error lists."""


@frozen
class Entry:
    """A clip. key: its name. captions: as the fields of a window. origin: where it comes from, for messages.

    file, line: where the caption is written.
    """

    key: str
    path: Path
    captions: Mapping[str, Any]
    origin: str
    file: str
    line: int | None = None


def key_of(path: Path, root: Path) -> str:
    """The path below `root` without its suffix; the whole path for a file elsewhere. No part of it is `..`."""
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    return inside.with_suffix("").as_posix()


def caption_fields(value: Any) -> dict[str, Any]:
    """A caption as the fields of a window. Raises ValueError for what is no caption.

    An object that has caption fields, or fields that are called like some, is taken as these; any other is a structured
    caption.
    """
    if isinstance(value, Mapping) and any(name.startswith(CALLED) for name in value):
        fields = dict(value)
    else:
        fields = {"caption_json" if isinstance(value, Mapping) else "caption": value}
    ranges = [name for name in RANGES if isinstance(value, Mapping) and name in value]
    if ranges:
        raise ValueError(f"'{ranges[0]}' is not read here: a caption is of the whole clip, or of all its windows")
    if all(field is None for field in fields.values()):
        raise ValueError("the caption is missing")
    if all(fields.get(name) is None for name in FIELDS):
        raise ValueError(f"no caption is called {' or '.join(fields):.200}; fields that are read: {', '.join(FIELDS)}")
    check_captions(fields)
    return fields


def unique(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in the order of their keys. Raises UserError when two have one key, or a name is not UTF-8."""
    by_key: dict[str, Entry] = {}
    problems = []
    for entry in entries:
        if fault := text_fault(f"{entry.key} {entry.path}"):
            problems.append(
                Problem(
                    message=f"the name of {entry.origin!r} {fault}",
                    file=ascii(entry.file),
                    line=entry.line,
                    hint="rename it",
                )
            )
        # Copies of files elsewhere lie in the dataset by their whole paths.
        first = by_key.setdefault(entry.key.strip("/"), entry)
        if first is not entry:
            places = f"{first.origin} and {entry.origin}" if first.origin != entry.origin else f"{entry.origin} twice"
            windows = "; captions of parts of one file need a manifest (docs/data.md, Captioned clips)"
            hint = f"rename or remove one{windows if first.path == entry.path else ''}"
            message = f"'{entry.key}' is the name of {places}"
            problems.append(Problem(message=message, file=entry.file, line=entry.line, hint=hint))
    no_problems(problems, "names of clips cannot be used")
    return sorted(by_key.values(), key=lambda entry: entry.key)


def no_problems(problems: list[Problem], title: str) -> None:
    """Raises UserError with the first problems, if there are any."""
    if problems:
        rest = len(problems) - MAX_PROBLEMS
        more = [Problem(message=f"and {rest} more")] if rest > 0 else []
        raise UserError(f"{title}", [*problems[:MAX_PROBLEMS], *more])
