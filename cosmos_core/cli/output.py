"""Tables, facts and JSON on stdout; warnings on stderr."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from cosmos_core.config.problems import render_problem
from cosmos_core.errors import Problem
from cosmos_core.strict_json import dumps

__all__ = ["print_facts", "print_json", "print_notes", "print_rows", "print_table", "table_lines"]

GAP = "  "
NARROWEST_TEXT = 24
"""Columns that the last column of a table needs; below that, rows become blocks."""


def print_json(value: Any) -> None:
    """`value` as indented JSON."""
    click.echo(dumps(value, indent=2))


def print_facts(facts: Mapping[str, Any], as_json: bool) -> None:
    """One ``name: value`` a line, lists and truth values in words; or a JSON object, with the values as they are."""
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        click.echo(f"{name}: {_in_words(value)}")


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def print_notes(notes: Iterable[Problem]) -> None:
    """Warnings on stderr, each with its file and line."""
    for note in notes:
        click.echo(f"warning: {render_problem(note)}", err=True)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], as_json: bool) -> None:
    """A table, or a JSON list with an object for each row."""
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal; elsewhere as wide as its longest cells, so that other programs can read it."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table_lines(columns, rows, width):
        click.echo(line)


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lines of a table of at most `width` characters; None for any width. Nothing is cut.

    The last column wraps. Where the others leave it too little room, each row becomes a block: its first cell, and the
    other cells below with their names.
    """
    lines = [tuple(columns), *map(tuple, rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    indent = sum(widths[:-1]) + len(GAP) * (len(columns) - 1)
    if width is None or indent + widths[-1] <= width:
        return [_row(line, widths) for line in lines]
    if width - indent >= min(NARROWEST_TEXT, widths[-1]):
        wrapped = (_wrapped(_row(line, widths), width, indent) for line in lines)
        return [part for parts in wrapped for part in parts]
    return [part for row in rows for part in _block(columns, row, width)]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _wrapped(line: str, width: int, indent: int) -> list[str]:
    """A line whose text from column `indent` on is wrapped; words that are too long go on in the next line."""
    head, text = line[:indent], line[indent:]
    parts = textwrap.wrap(text, max(width - indent, 1), break_on_hyphens=False) or [""]
    return [head + parts[0], *(" " * indent + part for part in parts[1:])]


def _block(columns: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    label = max(len(name) for name in columns[1:])
    cells = [f"  {name.ljust(label)}  {cell}" for name, cell in zip(columns[1:], row[1:], strict=True) if cell]
    return [row[0], *(part for cell in cells for part in _wrapped(cell, width, label + 4))]
