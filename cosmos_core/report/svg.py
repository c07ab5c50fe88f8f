"""Line charts as SVG text, without a library: axes, grid, a band for what was averaged, a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from attrs import frozen

from cosmos_core.report.metric_values import Curve, number_text

__all__ = ["Line", "line_chart"]

WIDTH, HEIGHT = 440, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 10, 32
COLORS = 8
"""Colours of lines in the page's style sheet."""
MAX_POINTS = 400
"""Points of a drawn line; of more, each is the mean of a bucket and the band its extremes."""
MAX_DOTS = 60
LOG_RATIO = 100.0
"""Positive values of which most differ by more than this get a logarithmic axis."""
MIDDLE = 0.98
"""Of many values, the share that decides the range of the axis; the rest is drawn at the edge."""


@frozen
class Line:
    """One line. color: its number, the same for one run everywhere. dots: mark the points, for few of them."""

    name: str
    curve: Curve
    color: int = 0
    dots: bool = False


@frozen
class _Point:
    step: float
    mean: float
    low: float
    high: float


@frozen
class _Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        share = ((math.log10(value) if self.log else value) - low) / ((high - low) or 1.0)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, count: int) -> list[float]:
        """Round values, about `count` of them."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1, max(1, (last - first) // count))]
        rough = (self.high - self.low) / count or 1.0
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def line_chart(lines: Sequence[Line], label: str) -> str:
    """An ``<svg>`` of curves over the steps; "" when none has a finite value. label: for people who cannot see it."""
    drawn = [(line, points) for line in lines if (points := _thinned(line.curve))]
    if not drawn:
        return ""
    everything = [point for _, points in drawn for point in points]
    steps = [point.step for point in everything]
    x = _Axis(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    y = _vertical([value for point in everything for value in (point.low, point.high)])
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">', *_grid(x, y)]
    for line, points in drawn:
        parts += _drawn(line, points, x, y)
    return "".join([*parts, "</svg>"])


def _thinned(curve: Curve) -> list[_Point]:
    """At most `MAX_POINTS` points of the finite values; each the mean, the least and the greatest of neighbours."""
    finite = [(step, value) for step, value in curve if value is not None and math.isfinite(value)]
    size = math.ceil(len(finite) / MAX_POINTS) or 1
    points = []
    for start in range(0, len(finite), size):
        part = finite[start : start + size]
        values = [value for _, value in part]
        points.append(_Point(part[-1][0], math.fsum(values) / len(values), min(values), max(values)))
    return points


def _vertical(values: list[float]) -> _Axis:
    ordered = sorted(values)
    rest = int(len(ordered) * (1 - MIDDLE) / 2)
    low, high = ordered[rest], ordered[-1 - rest]
    log = low > 0 and high / low > LOG_RATIO
    # A few spikes must not flatten the rest; where there are none, everything is shown.
    spread = high - low
    low = ordered[0] if low - ordered[0] <= spread else low
    high = ordered[-1] if ordered[-1] - high <= spread else high
    if log and low > 0:
        return _Axis(low, high, HEIGHT - BOTTOM, TOP, log=True)
    if low == high:
        low, high = low - (abs(low) or 1.0) * 0.1, high + (abs(high) or 1.0) * 0.1
    margin = 0.04 * (high - low)
    bottom = max(0.0, low - margin) if low >= 0 else low - margin
    return _Axis(bottom, high + margin, HEIGHT - BOTTOM, TOP)


def _grid(x: _Axis, y: _Axis) -> list[str]:
    parts = []
    for value in y.ticks(4):
        at = y.at(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{_tick(value)}</text>')
    for value in (tick for tick in x.ticks(5) if tick == int(tick)):
        parts.append(f'<text x="{x.at(value)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_tick(value)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">step</text>')
    if y.log:
        parts.append(f'<text x="{LEFT}" y="{HEIGHT - 2}">logarithmic scale</text>')
    return parts


def _tick(value: float) -> str:
    return number_text(int(value)) if value == int(value) and abs(value) < 1e6 else f"{value:.3g}"


def _drawn(line: Line, points: Sequence[_Point], x: _Axis, y: _Axis) -> list[str]:
    color = f"c{line.color % COLORS}"
    parts = []
    if any(point.low != point.high for point in points):
        upper = " ".join(f"{x.at(point.step)},{y.at(point.high)}" for point in points)
        lower = " ".join(f"{x.at(point.step)},{y.at(point.low)}" for point in reversed(points))
        parts.append(f'<polygon class="band {color}" points="{upper} {lower}"/>')
    places = [(x.at(point.step), y.at(point.mean)) for point in points]
    path = " ".join(f"{across},{up}" for across, up in places)
    parts.append(f'<polyline class="line {color}" points="{path}"/>')
    if (line.dots and len(points) <= MAX_DOTS) or len(points) == 1:
        for point, (across, up) in zip(points, places, strict=True):
            title = escape(f"{line.name}, step {point.step:.0f}: {number_text(point.mean)}")
            parts.append(f'<circle class="dot {color}" cx="{across}" cy="{up}" r="3.5"><title>{title}</title></circle>')
    return parts
