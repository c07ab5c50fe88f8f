"""Draws mutants of the files in the table: the same ones for the same seed and source."""

from __future__ import annotations

import ast
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from itertools import islice
from pathlib import Path

from tests.mutants.rules import edits

__all__ = ["Mutant", "Table", "TableError", "draw"]

TABLE = "tests/mutants/table.toml"


class TableError(Exception):
    """The table does not fit the tree."""


@dataclass(frozen=True)
class Table:
    """tests: of each source file. preload: modules that tests import anyway, none of them of the tree. left_alone:
    names of functions and constants without faults."""

    tests: dict[str, tuple[str, ...]]
    preload: tuple[str, ...]
    left_alone: tuple[str, ...]

    @classmethod
    def read(cls, root: Path, below: str = "") -> Table:
        """Of a tree; below: only files whose path begins so. Raises TableError for files that are not there."""
        content = tomllib.loads((root / TABLE).read_text(encoding="utf-8"))
        tests = {file: tuple(room["tests"]) for room in content["room"] for file in room["files"]}
        for path in sorted({*tests, *(test for found in tests.values() for test in found)}):
            if not (root / path.partition("::")[0]).exists():
                raise TableError(f"{TABLE} names {path}, which does not exist; write down where it is now")
        tests = {file: found for file, found in tests.items() if file.startswith(below)}
        return cls(tests, tuple(content.get("preload", ())), tuple(content.get("left_alone", ())))


@dataclass(frozen=True)
class Mutant:
    """A file with one fault. number: its place in the draw, from 1."""

    number: int
    file: str
    rule: str
    original: str
    changed: str
    tests: tuple[str, ...]

    @property
    def line(self) -> int:
        """Of the fault."""
        lines = zip(self.original.splitlines(), self.changed.splitlines(), strict=False)
        return next((number for number, (old, new) in enumerate(lines, 1) if old != new), 1)

    @property
    def diff(self) -> str:
        """Unified, for `patch -p1`."""
        old, new = self.original.splitlines(keepends=True), self.changed.splitlines(keepends=True)
        return "".join(unified_diff(old, new, f"a/{self.file}", f"b/{self.file}"))


def draw(root: Path, table: Table, seed: int, count: int) -> list[Mutant]:
    """The first `count` of all mutants in the order of the seed; fewer when there are not so many."""
    sources = {file: (root / file).read_text(encoding="utf-8") for file in table.tests}
    places = [(file, edit) for file, source in sources.items() for edit in edits(source, table.left_alone)]
    random.Random(seed).shuffle(places)

    def mutants() -> Iterator[Mutant]:
        number = 0
        for file, edit in places:
            changed = edit.apply(sources[file])
            if _is_valid(sources[file], changed):
                number += 1
                yield Mutant(number, file, edit.rule, sources[file], changed, table.tests[file])

    return list(islice(mutants(), count))


def _is_valid(original: str, changed: str) -> bool:
    """Whether it compiles and means something else to the parser."""
    try:
        compile(changed, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return ast.dump(ast.parse(original)) != ast.dump(ast.parse(changed))
