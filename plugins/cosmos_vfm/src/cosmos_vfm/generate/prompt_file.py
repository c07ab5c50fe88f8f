"""Prompts from the command line and from files: text, JSON Lines, CSV. Nothing here needs torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import fields_dict, frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean, path_fault
from cosmos_core.strict_json import loads
from cosmos_core.text_files import csv_fault, csv_reader, read_text

__all__ = ["Row", "read_prompts"]


@frozen(kw_only=True)
class Row:
    """One prompt as it was written; None for what is not said. Paths are as seen from here. file, line: of the row."""

    prompt: str
    image: Path | None = None
    video: Path | None = None
    size: str | None = None
    frames: int | None = None
    fps: float | None = None
    seed: int | None = None
    negative_prompt: str | None = None
    file: str = ""
    line: int | None = None

    def problem(self, message: str, key: str, hint: str = "") -> Problem:
        """About a value of this row. key: as in a file; on the command line it is an option."""
        option = key if self.file else f"--{key.replace('_', '-').removesuffix('-prompt')}"
        return Problem(message=message, key=option, file=self.file, line=self.line, hint=hint)


KEYS = tuple(name for name in fields_dict(Row) if name not in ("file", "line"))
_NUMBERS: dict[str, type] = {"frames": int, "fps": float, "seed": int}


def read_prompts(path: Path) -> list[Row]:
    """One row a line of a .txt, .jsonl or .csv file (with a header). Paths in it are relative to it.

    Raises UserError with every bad line.
    """
    try:
        text = read_text(path)
    except UserError as error:
        raise UserError("the prompts cannot be read", error.problems) from None
    readers = {".jsonl": _json_lines, ".csv": _csv, ".txt": _text}
    if path.suffix.lower() not in readers:
        message = f"its name ends in {path.suffix!r}; prompts are read from {', '.join(readers)}"
        raise UserError("the prompts cannot be read", [Problem(message=message, file=str(path))])
    rows: list[Row] = []
    problems: list[Problem] = []
    for line, values in readers[path.suffix.lower()](text):
        if isinstance(values, str):
            problems.append(Problem(message=values, file=str(path), line=line))
            continue
        row, wrong = _row(values, path, line)
        problems += wrong
        rows.append(row)
    if problems:
        raise UserError("the prompts cannot be read", problems)
    if not rows:
        raise UserError("the prompts cannot be read", [Problem(message="holds no prompt", file=str(path))])
    return rows


def _text(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, {"prompt": line.strip()}


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = loads(line)
        except ValueError as error:
            yield number, f"is not JSON: {error}"
            continue
        yield number, value if isinstance(value, dict) else "is not a JSON object"


def _csv(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    reader = csv_reader(text)
    try:
        columns = reader.fieldnames or ()
    except csv.Error as error:
        yield 1, csv_fault(error)
        return
    if "prompt" not in columns:
        yield 1, f"names no column 'prompt'; the first line names the columns with commas between: {', '.join(KEYS)}"
        return
    if repeated := [name for name in dict.fromkeys(columns) if list(columns).count(name) > 1 and name]:
        yield 1, f"names a column twice: {', '.join(repeated)}"
        return
    while True:
        begin = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield begin, csv_fault(error)
            return
        number = reader.line_num
        if None in values:
            yield number, "has more cells than the header; put quotes around texts with commas"
        else:
            yield number, {name: value for name, value in values.items() if value not in ("", None)}


def _row(values: dict[str, Any], path: Path, line: int) -> tuple[Row, list[Problem]]:
    problems: list[Problem] = []

    def wrong(message: str, key: str = "", hint: str = "") -> None:
        problems.append(Problem(message=message, key=key, file=str(path), line=line, hint=hint))

    for key in values.keys() - set(KEYS):
        wrong("is no key of a prompt", key[:80], did_you_mean(key, KEYS) or f"keys are {', '.join(KEYS)}")
    read: dict[str, Any] = {}
    for key in KEYS:
        value = values.get(key)
        if value is None:
            continue
        kind = _NUMBERS.get(key, str)
        # A structured caption may be written as an object in JSON Lines.
        if key.endswith("prompt") and isinstance(value, dict):
            value = json.dumps(value, ensure_ascii=False)
        try:
            converted = kind(value)
            if (
                isinstance(value, bool)
                or (kind is int and converted != float(value))
                or (kind is str and value != converted)
            ):
                raise ValueError
            read[key] = converted
        except (TypeError, ValueError, OverflowError):
            name = {str: "text", int: "whole number"}.get(kind, "number")
            wrong(f"is {value!r:.80}, which is no {name}", key)
    if values.get("prompt") is None:
        wrong("is missing", "prompt")
    for key in ("image", "video"):
        if key in read:
            if fault := path_fault(read[key]):
                wrong(f"the path {fault}", key)
            read[key] = path.parent / read[key]
    return Row(**{"prompt": "", **read}, file=str(path), line=line), problems
