"""The page of `cosmos report`: what was run, its curves, samples, answers and checkpoints, in one HTML file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core import __version__
from cosmos_core.config.secrets import without_secrets
from cosmos_core.console.layout import size_text
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.record import replace_file
from cosmos_core.report.charts import Chart, charts_of
from cosmos_core.report.media import Group, Room, media_of, pages_of
from cosmos_core.report.metric_values import finite_number, number_text
from cosmos_core.report.metrics_file import Metrics, read_metrics
from cosmos_core.report.record import RunRecord, read_record
from cosmos_core.report.run_status import RunStatus, names_of, read_status, recorded_config
from cosmos_core.report.settings import Difference, differing_settings
from cosmos_core.strict_json import loads

__all__ = ["write_own_report", "write_report"]

logger = logging.getLogger(__name__)

TEMPLATE = "page.html.jinja"
MAX_ANSWERS = 30
MAX_VALIDATIONS = 8
MAX_CELL_CHARACTERS = 600
LOG_LINES = 30
LOG_BYTES = 2**15


@frozen
class Table:
    """Columns and rows of text. more: rows that are not shown."""

    columns: list[str]
    rows: list[list[str]]
    more: int = 0


@frozen(kw_only=True)
class RunPage:
    """One run on the page.

    answers: (where, table) of the newest validation. links: (name, place) of its other pages. log: last lines of a
    failed run.
    """

    name: str
    color: int
    status: RunStatus
    record: RunRecord
    metrics: Metrics
    samples: list[Group]
    scores: Table
    answers: list[tuple[str, Table]]
    links: list[tuple[str, str]]
    log: str

    @property
    def dropped(self) -> list[tuple[str, str, int]]:
        """Loader, reason and number of samples that the newest launch did without."""
        newest = self.record.launches[-1].left_out if self.record.launches else {}
        return [(loader, reason, count) for loader, counts in newest.items() for reason, count in counts.items()]


def write_report(
    run_dirs: Sequence[Path], output: Path, *, is_running: Callable[[RunPaths], bool], most_bytes: int | None = None
) -> None:
    """Write the page of these runs to `output`. most_bytes: of samples that are inlined. Raises OSError."""
    room = Room() if most_bytes is None else Room(most_bytes)
    runs = [
        _run(folder, name, number, output, room, is_running)
        for number, (folder, name) in enumerate(zip(run_dirs, names_of(run_dirs), strict=True))
    ]
    charts = charts_of([(run.name, run.metrics) for run in runs])
    differences = differing_settings([recorded_config(folder) for folder in run_dirs])
    output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(output, _rendered(runs, charts, differences).encode(errors="replace"))


def write_own_report(run_dir: Path) -> None:
    """Write a run's own page, ``report.html``, when a launch has ended; what goes wrong is a warning."""
    try:
        write_report([run_dir], RunPaths(run_dir).report, is_running=lambda paths: False)
    except Exception as error:
        logger.warning("%s was not written: %s: %s", RunPaths(run_dir).report, type(error).__name__, error)


def _rendered(runs: Sequence[RunPage], charts: Sequence[Chart], differences: Sequence[Difference]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": size_text, "number": number_text, "when": _when}
    return environment.get_template(TEMPLATE).render(
        runs=runs,
        charts=charts,
        differences=differences,
        version=__version__,
        now=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _run(
    folder: Path, name: str, number: int, page: Path, room: Room, is_running: Callable[[RunPaths], bool]
) -> RunPage:
    paths, status = RunPaths(folder), read_status(folder, is_running=is_running)
    metrics = read_metrics(paths.metrics)
    return RunPage(
        name=name,
        color=number,
        status=status,
        record=read_record(folder),
        metrics=metrics,
        samples=media_of(folder, page, room),
        scores=_scores(metrics),
        answers=_answers(paths),
        links=pages_of(folder, page),
        log=_log(paths) if status.state == "failed" else "",
    )


def _scores(metrics: Metrics) -> Table:
    """Every metric of some validations, the first and the last among them."""
    count = len(metrics.validations)
    picked = sorted({round(number * (count - 1) / (MAX_VALIDATIONS - 1)) for number in range(MAX_VALIDATIONS)})
    shown = [metrics.validations[index] for index in picked] if count else []
    names = dict.fromkeys(name for record in shown for name in record if name != "step")
    rows = [[name, *(_cell(finite_number(record.get(name))) for record in shown)] for name in names]
    return Table(["metric", *(f"step {record['step']}" for record in shown)], rows, count - len(shown))


def _cell(value: float | None) -> str:
    return "not finite" if value is None else number_text(value)


def _answers(paths: RunPaths) -> list[tuple[str, Table]]:
    """What the model said in the newest validation that recorded it, and in the newest evaluation."""
    validations = sorted(paths.root.glob("validation/step_*/answers.jsonl"))
    files = [*validations[-1:], *paths.evaluation.glob("answers.jsonl")]
    tables = ((str(file.parent.relative_to(paths.root)), _table(file)) for file in files)
    return [(where, table) for where, table in tables if table.rows]


def _table(file: Path) -> Table:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            records = [record for line in islice(lines, MAX_ANSWERS) if (record := _record(line))]
            more = sum(1 for _ in lines)
    except OSError:
        return Table([], [])
    columns = list(dict.fromkeys(name for record in records for name in record))
    rows = [[_text(record.get(name)) for name in columns] for record in records]
    return Table(columns, rows, more)


def _record(line: str) -> Mapping[str, Any]:
    try:
        record = loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _text(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_CELL_CHARACTERS else f"{text[:MAX_CELL_CHARACTERS]}..."


def _log(paths: RunPaths) -> str:
    """The end of rank 0's log, without secrets."""
    try:
        with paths.log(0).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return without_secrets("\n".join(lines[-LOG_LINES:]))


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
