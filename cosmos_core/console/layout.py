"""Lines that fit a number of columns: whole fields, the most important first, and a bar in what is left."""

from __future__ import annotations

from collections.abc import Sequence

from cosmos_core.console.terminal import DONE, LEFT

__all__ = ["amount", "bar_line", "clock", "fit", "number", "size_text"]

GAP = "  "
MAX_BAR, MIN_BAR = 40, 5
MIB, GIB = 2**20, 2**30


def fit(fields: Sequence[str], width: int) -> str:
    """As many whole fields as `width` columns hold, in order; one that is too long ends the line."""
    line = ""
    for field in fields:
        longer = f"{line}{GAP}{field}" if line else field
        if len(longer) > width:
            break
        line = longer
    return line


def bar_line(label: str, fraction: float, fields: Sequence[str], width: int) -> str:
    """`label`, a bar, the percentage and `fields`; the bar goes first where there is no room, then the last fields."""
    fraction = min(max(fraction, 0.0), 1.0)
    percent = f"{int(100 * fraction):3d}%"
    room = width - len(GAP.join([label, percent, *fields])) - 1
    if room < MIN_BAR:
        return fit([label, percent, *fields], width)
    length = min(room, MAX_BAR)
    done = round(fraction * length)
    return f"{label} {DONE * done}{LEFT * (length - done)} {GAP.join([percent, *fields])}"


def clock(seconds: float) -> str:
    """A duration as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600:d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def number(value: float) -> str:
    """A metric with four decimals; none for counts, and where they mean nothing."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4f}"


def amount(done: float, total: float, unit: str) -> str:
    """How much of how much, such as "3 of 8 clips"; "bytes" are told in MiB or GiB."""
    if unit == "bytes":
        size, unit, digits = (GIB, "GiB", 1) if total >= GIB else (MIB, "MiB", 0)
        return f"{done / size:.{digits}f} of {total / size:.{digits}f} {unit}"
    return f"{done:,.0f} of {total:,.0f} {unit}"


def size_text(size: float) -> str:
    """Bytes as "12.3 MiB" or "4.0 GiB"."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"
