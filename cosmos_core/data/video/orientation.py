"""How a picture is turned for display, from a file's display matrix."""

from __future__ import annotations

import struct
from typing import Any

__all__ = ["Filters", "filters"]

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


def filters(frame: Any) -> Filters:
    """FFmpeg filters (name, argument) that turn the frame as a player shows it; none for odd angles."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return ()
    a, b, _, c, d = struct.unpack("<5i", bytes(matrix)[:20])
    return _FILTERS.get((_sign(a), _sign(b), _sign(c), _sign(d)), ())


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
