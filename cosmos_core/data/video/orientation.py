"""How a picture is turned for display, from a video's display matrix or a picture file's EXIF."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import PIL.Image

from cosmos_core.data.source import UnreadableSample

__all__ = ["PILLOW_ERRORS", "Filters", "filters", "picture_filters"]

PILLOW_ERRORS = (OSError, EOFError, KeyError, TypeError, ValueError, SyntaxError, RuntimeError, struct.error)
"""What Pillow raises for files that are not images, and for damaged metadata."""

COMPRESSION, PHOTOMETRIC, ORIENTATION = 0x103, 0x106, 0x112
JPEG_IN_TIFF, YCBCR = (6, 7), 6
TIFF = "a TIFF picture with JPEG or YCbCr in it; convert it to PNG or JPEG"
SKEW = 0.0175
"""Part of a matrix that counts as rounding: one degree, as for the ffmpeg program."""
ODD = "its display matrix turns it by an angle that is no quarter turn; encode it anew: `ffmpeg -i OLD NEW` turns it"

Filters = tuple[tuple[str, str], ...]

_FILTERS: dict[tuple[int, int, int, int], Filters] = {
    (-1, 0, 0, -1): (("hflip", ""), ("vflip", "")),
    (-1, 0, 0, 1): (("hflip", ""),),
    (1, 0, 0, -1): (("vflip", ""),),
    (0, 1, -1, 0): (("transpose", "clock"),),
    (0, -1, 1, 0): (("transpose", "cclock"),),
    (0, 1, 1, 0): (("transpose", "cclock_flip"),),
    (0, -1, -1, 0): (("transpose", "clock_flip"),),
}
"""By the signs of the matrix: where a picture's right and lower edge go, as (x, y) each."""

_UPRIGHT = ((1, 0, 0, 1), (0, 0, 0, 0))
"""Matrices that turn nothing; the second one is damage, which players ignore."""

_EXIF: dict[int, Filters] = {
    2: (("hflip", ""),),
    3: (("hflip", ""), ("vflip", "")),
    4: (("vflip", ""),),
    5: (("transpose", "cclock_flip"),),
    6: (("transpose", "clock"),),
    7: (("transpose", "clock_flip"),),
    8: (("transpose", "cclock"),),
}


def filters(frame: Any, path: Path) -> Filters:
    """FFmpeg filters (name, argument) that turn the frame as a player shows it.

    path: the frame's file, to name. Raises UnreadableSample for anything but quarter turns and mirroring, after which
    the picture is no rectangle with upright edges.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all kinds of side data, EXIF among them.
        return ()
    if matrix is None:
        return ()
    a, b, _, c, d = struct.unpack("<5i", bytes(matrix)[:20])
    small = SKEW * max(map(abs, (a, b, c, d)))
    a, b, c, d = (_sign(value) if abs(value) > small else 0 for value in (a, b, c, d))
    if (a, b, c, d) in _UPRIGHT:
        return ()
    if (a, b, c, d) not in _FILTERS:
        raise UnreadableSample(str(path), ODD)
    return _FILTERS[a, b, c, d]


def picture_filters(path: Path) -> Filters:
    """The same for a picture file, from its EXIF orientation; none where its metadata is damaged.

    Raises UnreadableSample for a TIFF picture that FFmpeg decodes as black, or in other colours.
    """
    try:
        with PIL.Image.open(path) as picture:
            tags, is_tiff = picture.getexif(), picture.format == "TIFF"
    except (*PILLOW_ERRORS, PIL.Image.DecompressionBombError):
        return ()
    if is_tiff and (tags.get(COMPRESSION) in JPEG_IN_TIFF or tags.get(PHOTOMETRIC) == YCBCR):
        raise UnreadableSample(str(path), TIFF)
    return _EXIF.get(tags.get(ORIENTATION, 1), ())


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
