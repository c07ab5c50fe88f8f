"""Whether a Matroska or WebM file is whole. FFmpeg reads one that was cut short as if the video were shorter."""

from __future__ import annotations

from pathlib import Path
from typing import IO

__all__ = ["is_cut_short"]

SEGMENT = 0x18538067
"""The element that holds all packets."""
MAX_ELEMENTS = 8
"""Of the top level that are read; the segment is the second one, or follows a few empty ones."""


def is_cut_short(path: Path) -> bool:
    """Whether the file ends before its segment does; False for a recording that never said how long it would be."""
    with path.open("rb") as file:
        for _ in range(MAX_ELEMENTS):
            kind, length = _number(file, keep_marker=True), _number(file)
            if kind is None or length is None:
                return False
            end = file.tell() + length
            if kind == SEGMENT:
                return path.stat().st_size < end
            file.seek(end)
    return False


def _number(file: IO[bytes], *, keep_marker: bool = False) -> int | None:
    """A number of EBML: leading zero bits, then a marker bit, tell how many bytes follow. None for an unknown length.

    keep_marker: as names of elements are written.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    number = int.from_bytes(first + file.read(more))
    marker = 1 << (7 * (more + 1))
    if keep_marker:
        return number
    return None if number == 2 * marker - 1 else number - marker
