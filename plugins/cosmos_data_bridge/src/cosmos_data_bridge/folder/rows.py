"""Rows of a table: CSV, TSV, JSONL, Parquet, or Arrow, as `datasets` saves it or as Feather."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from cosmos_core.data.first_row import ONE_A_LINE
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.strict_json import loads
from cosmos_core.text_files import csv_fault, csv_reader, extra_fields, read_text
from cosmos_data_bridge.folder.entries import no_problems

__all__ = ["COLUMNAR", "TABLES", "Row", "column_names", "rows"]

ARROW, FEATHER, PARQUET, TSV, JSONL = ".arrow", ".feather", ".parquet", ".tsv", ".jsonl"
COLUMNAR = (PARQUET, ARROW, FEATHER)
TABLES = (".csv", TSV, JSONL, *COLUMNAR)
ARROW_FILE = b"ARROW1"
"""How an Arrow file begins; a stream does not."""
UNREADABLE = "a table cannot be read"
BATCH = 16
"""Rows of Parquet read at a time; each may hold a video."""

Row = Mapping[str, Any]


def column_names(file: Path) -> list[str]:
    """The columns of a table; those of its first row for JSONL. Raises UserError."""
    suffix = file.suffix.lower()
    if suffix in COLUMNAR:
        return _columnar(file, None)[0]
    if suffix == JSONL:
        return next((list(row) for _, row in _json_lines(file)), [])
    try:
        return list(_csv(file).fieldnames or ())
    except csv.Error as error:
        raise _not_csv(file, 1, error) from None


def rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Rows, of which `columns` are read, with their lines; those without lines are numbered from 1.

    Raises UserError.
    """
    suffix = file.suffix.lower()
    if suffix in COLUMNAR:
        yield from enumerate(_columnar(file, columns)[1], start=1)
    elif suffix == JSONL:
        yield from _json_lines(file)
    else:
        reader = _csv(file)
        last = 1
        problems = []
        try:
            for row in reader:
                if fault := extra_fields(row):
                    problems.append(Problem(message=fault, file=str(file), line=last + 1))
                else:
                    yield reader.line_num, row
                last = reader.line_num
        except csv.Error as error:
            raise _not_csv(file, last + 1, error) from None
        no_problems(problems, f"bad lines in {file}")


def _csv(file: Path) -> csv.DictReader[str]:
    """Some use semicolons or tabs."""
    text = read_text(file)
    header = text.partition("\n")[0]
    other = next((mark for mark in ";\t" if mark in header and "," not in header), ",")
    delimiter = "\t" if file.suffix.lower() == TSV else other
    return csv_reader(text, delimiter=delimiter)


def _not_csv(file: Path, line: int, error: csv.Error) -> UserError:
    return UserError(UNREADABLE, [Problem(message=csv_fault(error), file=str(file), line=line)])


def _json_lines(file: Path) -> Iterator[tuple[int, Row]]:
    problems = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = loads(line)
        except ValueError as error:
            message = f"not JSON: {error.msg}" if isinstance(error, JSONDecodeError) else str(error)
            hint = ONE_A_LINE if isinstance(error, JSONDecodeError) else ""
            problems.append(Problem(message=message, file=str(file), line=number, hint=hint))
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            problems.append(Problem(message="not a JSON object", file=str(file), line=number, hint=ONE_A_LINE))
    no_problems(problems, f"bad lines in {file}")


def _columnar(file: Path, columns: Sequence[str] | None) -> tuple[list[str], Iterator[Row]]:
    """Names of all columns, and the rows with some of them."""
    if find_spec("pyarrow") is None:
        hint = "pip install pyarrow"
        raise UserError(UNREADABLE, [Problem(message="it needs the package pyarrow", file=str(file), hint=hint)])
    import pyarrow
    import pyarrow.parquet

    def read(batches: Iterator[Any]) -> Iterator[Row]:
        try:
            for batch in batches:
                # Arrow believes a file: damaged offsets would lead out of its memory.
                batch.validate(full=True)
                part = batch if columns is None else batch.select(columns)
                # One row at a time, since a row may hold a video.
                for number in range(part.num_rows):
                    yield part.slice(number, 1).to_pylist()[0]
        except (OSError, pyarrow.ArrowException) as error:
            raise _unreadable(file, error) from None

    try:
        if file.suffix.lower() != PARQUET:
            memory = pyarrow.memory_map(str(file))
            if memory.read_at(len(ARROW_FILE), 0) != ARROW_FILE:
                stream = pyarrow.ipc.open_stream(memory)
                return stream.schema.names, read(iter(stream))
            blocks = pyarrow.ipc.open_file(memory)
            return blocks.schema.names, read(map(blocks.get_batch, range(blocks.num_record_batches)))
        table = pyarrow.parquet.ParquetFile(file)
        return table.schema_arrow.names, read(table.iter_batches(BATCH, columns=columns))
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(UNREADABLE, [Problem(message=first_line(error), file=str(file), hint="fetch it again")])
