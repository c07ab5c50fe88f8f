"""What a Matroska or WebM file lacks. FFmpeg reads one that was cut short as if the video were shorter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Literal

__all__ = ["missing_part"]

SEGMENT, SEEK_HEAD, CLUSTER, CUES = 0x18538067, 0x114D9B74, 0x1F43B675, 0x1C53BB6B
"""Elements: the one that holds all others, the table of contents, packets of some seconds, the index."""
MAX_ELEMENTS = 8
"""Of the top level that are read; the segment is the second one, or follows a few empty ones."""
INDEX_PLACE = re.compile(rb"\x53\xab\x84\x1c\x53\xbb\x6b\x53\xac([\x81-\x88])(.{1,8})", re.DOTALL)
"""Where the table of contents says that the index begins, counted from the begin of the segment's content."""


def missing_part(path: Path) -> Literal["frames", "index"] | None:
    """What was cut off: frames, or only the index and what else follows all frames.

    None for a whole file, and for a recording that never said how long it would be.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        for _ in range(MAX_ELEMENTS):
            kind, length = _number(file, keep_marker=True), _number(file)
            if kind is None or length is None:
                return None
            end = file.tell() + length
            if kind == SEGMENT:
                return None if end <= size else "index" if _has_all_frames(file, size) else "frames"
            if end > size:
                return None
            file.seek(end)
    return None


def _has_all_frames(file: IO[bytes], size: int) -> bool:
    """Whether only what follows the packets is missing. file: at the begin of a cut segment's content."""
    begin = here = file.tell()
    index, packets = None, False
    while here < size:
        kind, length = _number(file, keep_marker=True), _number(file)
        if kind == CUES and packets:
            return True
        if kind is None or length is None or file.tell() + length > size:
            break
        here = file.tell() + length
        packets |= kind == CLUSTER
        if kind == SEEK_HEAD and (place := INDEX_PLACE.search(file.read(length))):
            index = begin + int.from_bytes(place[2][: place[1][0] & 15])
        file.seek(here)
    return packets and here == index


def _number(file: IO[bytes], *, keep_marker: bool = False) -> int | None:
    """A number of EBML: leading zero bits, then a marker bit, tell how many bytes follow.

    keep_marker: as names of elements are written. None for an unknown length, and where the file ends.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    if len(rest) < more:
        return None
    number = int.from_bytes(first + rest)
    marker = 1 << (7 * (more + 1))
    if keep_marker:
        return number
    return None if number == 2 * marker - 1 else number - marker
