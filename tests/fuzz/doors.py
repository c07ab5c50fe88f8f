"""Doors: the functions through which files of users come in, each with valid files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

__all__ = ["Door", "contents"]


@frozen
class Door:
    """enter: reads a folder with `files`. weight: share of the cases."""

    name: str
    files: Mapping[str, bytes]
    enter: Callable[[Path], object]
    weight: int = 4


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
