"""What `cosmos data check` tells, as facts for a terminal and as one page that needs no other file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

import numpy as np

from cosmos_core.console.layout import size_text
from cosmos_core.data.dropped import Dropped
from cosmos_core.names import counted
from cosmos_core.train.check_data import CheckedSample, DataReport

__all__ = ["as_html", "facts"]

MAX_SIZES = 12
"""Sizes that a line tells."""
MAX_ROWS = 2000
"""Samples in the table of a page."""
BARS, BAR_WIDTH, BAR_HEIGHT = 24, 9, 60
VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'
STYLE = """
body{font-family:sans-serif;margin:2em;max-width:80em}
table{border-collapse:collapse;margin:.5em 0}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left;
vertical-align:top}th[data-sort]{cursor:pointer;background:#eee}
figure{display:inline-block;margin:.5em;max-width:44em;vertical-align:top}figcaption{font-size:.8em}
pre{white-space:pre-wrap;margin:0}summary{cursor:pointer;font-weight:bold;margin:.6em 0}
.problem{color:#a00}rect{fill:#68a}img{max-width:100%}details{overflow-x:auto}
"""
SCRIPT = """
for (const head of document.querySelectorAll('th[data-sort]')) head.onclick = () => {
  const table = head.closest('table'), column = [...head.parentNode.children].indexOf(head);
  const rows = [...table.tBodies[0].rows], down = head.dataset.sort === 'up';
  const value = row => row.cells[column].textContent, number = text => text === '' ? -1 : Number(text);
  rows.sort((a, b) => {
    const x = number(value(a)), y = number(value(b));
    return isNaN(x) || isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
  });
  if (down) rows.reverse();
  head.dataset.sort = down ? 'down' : 'up';
  table.tBodies[0].append(...rows);
};
"""
COLUMNS = ("place", "key", "state", "tokens", "frames", "sizes", "frames a second", "seconds", "characters")


def facts(report: DataReport) -> Iterator[tuple[str, str]]:
    """Name and text of every fact; a name may come several times."""
    yield "samples", f"{report.samples} in all, {report.read} read; {report.used} can be used"
    for label, group in (
        ("left out", report.dropped),
        ("skipped", report.skipped),
        ("differs", report.differences),
        ("repeated", report.repeated),
    ):
        yield from ((label, _drop_text(dropped)) for dropped in group)
    if report.overlong:
        policy = f"{report.section}.overlong = {report.overlong_policy}"
        yield "longer than a pack", f"{report.overlong} of {report.read} ({policy})"
    for name, (low, middle, high) in report.ranges.items():
        yield name, f"{low:g} to {high:g}, median {middle:g}" if low < high else f"{low:g}"
    if report.sizes:
        sizes = [f"{size} ({count})" for size, count in report.sizes.items()]
        more = f" and {len(sizes) - MAX_SIZES} more" if len(sizes) > MAX_SIZES else ""
        yield "sizes", ", ".join(sizes[:MAX_SIZES]) + more
    if report.kinds:
        yield "kinds", ", ".join(f"{kind} ({count})" for kind, count in report.kinds.items())
    filled = "" if report.packing_efficiency is None else f", {report.packing_efficiency:.1%} full"
    yield "packs", f"{report.packs}{filled}"
    unit = "steps an epoch" if report.section == "dataloader_train" else "micro-batches"
    yield f"{unit} on one process", f"{'about ' if report.read < report.samples else ''}{report.steps}"
    if report.latent_bytes:
        yield "a latent cache would take", size_text(report.latent_bytes)


def _drop_text(dropped: Dropped) -> str:
    key = f"; {dropped.key} changes it" if dropped.key else ""
    return f"{dropped.count} x {dropped.reason}, e.g. {', '.join(dropped.examples) or '-'}{key}"


def as_html(title: str, reports: Sequence[DataReport]) -> str:
    """The page: for each report its facts, distributions, pictures of samples, and a table to sort."""
    sections = "".join(_section(report) for report in reports)
    body = f"<body><h1>{escape(title)}</h1>{sections}<script>{SCRIPT}</script></body>"
    head = f'<meta charset="utf-8">{VIEWPORT}<title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head>{body}</html>\n'


def _section(report: DataReport) -> str:
    problems = "".join(f'<p class="problem">training would refuse: {escape(text)}</p>' for text in report.problems)
    table = _table(("what", "value"), list(facts(report)), sortable=False)
    used = [row for row in report.rows if row.skipped is None and not row.failed]
    pictures = "".join(_figure(row) for row in used if row.picture)
    parts = [
        _fold("distributions", "".join(_distributions(used)), is_open=True),
        _fold("pictures", pictures, is_open=True),
        _fold(_count("samples", len(report.rows)), _table(COLUMNS, list(map(_cells, report.rows[:MAX_ROWS])))),
    ]
    return f"<section><h2>{escape(report.section)}</h2>{problems}{table}{''.join(parts)}</section>"


def _count(name: str, count: int) -> str:
    return f"{name}: the first {MAX_ROWS} of {count}" if count > MAX_ROWS else f"{name}: {count}"


def _fold(title: str, content: str, *, is_open: bool = False) -> str:
    return f"<details{' open' * is_open}><summary>{escape(title)}</summary>{content}</details>" if content else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, sortable: bool = True) -> str:
    mark = ' data-sort=""' if sortable else ""
    head = "".join(f"<th{mark}>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: CheckedSample) -> tuple[str, ...]:
    if row.failed:
        state = f"ends the run: {row.failed[0].message}"
    elif row.skipped is not None:
        state = f"skipped: {row.skipped[1]} ({row.skipped[0]})"
    else:
        state = "made shorter" if row.overlong else "used"
    is_used = not row.failed and row.skipped is None
    return (
        str(row.position), row.key, "; ".join((state, *row.differences)), str(row.tokens) if is_used else "",
        str(row.frames) if is_used else "", ", ".join(row.sizes), ", ".join(f"{fps:g}" for fps in row.fps),
        ", ".join(f"{seconds:g}" for seconds in row.seconds), "" if row.characters is None else str(row.characters),
    )  # fmt: skip


def _figure(row: CheckedSample) -> str:
    text = _fold("text", f"<pre>{escape(row.text)}</pre>") if row.text else ""
    amounts = f"{counted(row.frames, 'frame')}, {counted(row.tokens, 'token')}"
    about = f"{row.key}: {', '.join(dict.fromkeys(row.sizes))}, {amounts}"
    image = f'<img alt="{escape(row.key)}" src="data:image/jpeg;base64,{row.picture}">'
    return f"<figure>{image}<figcaption>{escape(about)}{text}</figcaption></figure>"


def _distributions(rows: Sequence[CheckedSample]) -> Iterator[str]:
    columns = {
        "tokens": [row.tokens for row in rows],
        "frames": [row.frames for row in rows if row.frames],
        "characters": [row.characters for row in rows if row.characters is not None],
    }
    for name, values in columns.items():
        if len(set(values)) > 1:
            yield _bars(name, values)


def _bars(name: str, values: Sequence[int]) -> str:
    """A histogram as SVG."""
    counts, edges = np.histogram(values, bins=min(BARS, len(set(values))))
    bars = "".join(
        f'<rect x="{BAR_WIDTH * place}" y="{BAR_HEIGHT - height}" width="{BAR_WIDTH - 1}" height="{height}">'
        f"<title>{edges[place]:g} to {edges[place + 1]:g}: {count}</title></rect>"
        for place, count in enumerate(counts)
        for height in [round(BAR_HEIGHT * count / counts.max())]
    )
    about = f"{name}: {min(values)} to {max(values)}"
    size = f'width="{BAR_WIDTH * BARS}" height="{BAR_HEIGHT}"'
    return f"<figure><svg {size}>{bars}</svg><figcaption>{escape(about)}</figcaption></figure>"
