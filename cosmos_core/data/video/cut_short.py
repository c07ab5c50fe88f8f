"""What a file that was cut short lacks.

FFmpeg reads AVI, ASF and FLV files without their end as shorter videos, and MP4 files without their index not at all.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import IO

__all__ = ["lacks_frames", "lacks_index"]

MAX_CHUNKS = 1000
"""Of the top level of a file that are looked at; there are a few, and some more in one of many gigabytes."""
UNKNOWN = 0x7FFF0000
"""Sizes from here on are those of recordings that never came to write another one."""
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
MP4_BEGINS = (b"ftyp", b"mdat", b"moov", b"wide")
LONG = bytes([0, 0, 0, 1])
"""In place of a length, which then follows in eight bytes."""
HEAD = 4096
FLV_SIZE = re.compile(rb"\0\x08filesize\0(.{8})", re.DOTALL)


def lacks_frames(path: Path, kind: str) -> bool:
    """Whether the file ends before its frames do. kind: FFmpeg's name of its format; False for any other.

    False also for a recording that never said how long it would be.
    """
    find = {"avi": _avi_end, "asf": _asf_end, "flv": _flv_end}.get(kind)
    if find is None:
        return False
    with path.open("rb") as file:
        return find(file) > path.stat().st_size


def lacks_index(path: Path) -> bool:
    """Whether it begins as MP4 and QuickTime files do, and has no whole index."""
    size = path.stat().st_size
    place = 0
    with path.open("rb") as file:
        for _ in range(MAX_CHUNKS):
            file.seek(place)
            head = file.read(16)
            if not place and head[4:8] not in MP4_BEGINS:
                return False
            length = int.from_bytes(head[8:] if head[:4] == LONG else head[:4])
            if len(head) < 8 or length < 8 or place + length > size:
                return True
            if head[4:8] == b"moov":
                return False
            place += length
    return False


def _avi_end(file: IO[bytes]) -> int:
    """Of the last list of frames; files of many gigabytes have several."""
    place = end = 0
    for _ in range(MAX_CHUNKS):
        file.seek(place)
        head = file.read(12)
        if len(head) < 12:
            break
        size = int.from_bytes(head[4:8], "little")
        if head[:4] == b"RIFF":
            place += 12
            continue
        if head[:4] == b"LIST" and head[8:] == b"movi":
            if not 4 < size < UNKNOWN:
                return 0
            end = place + 8 + size
        place += 8 + size + size % 2
    return end


def _asf_end(file: IO[bytes]) -> int:
    """Of the object that holds all packets, which follows the header."""
    header = int.from_bytes(file.read(24)[16:], "little")
    file.seek(min(header, 2**62))
    data = file.read(24)
    return header + int.from_bytes(data[16:], "little") if data[:16] == ASF_DATA else 0


def _flv_end(file: IO[bytes]) -> int:
    found = FLV_SIZE.search(file.read(HEAD))
    size = struct.unpack(">d", found[1])[0] if found else 0.0
    return int(size) if 0 < size < 2**62 else 0
