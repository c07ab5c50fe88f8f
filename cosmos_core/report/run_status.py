"""The state of a run, read from its directory: how it ended, how far it came, how much space it takes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.plan.disk_use import files_below
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.record import content_of
from cosmos_core.report.metric_values import finite_number
from cosmos_core.report.metrics_file import last_metrics

__all__ = ["RunStatus", "names_of", "read_status", "recorded_config", "standing_launch"]

STATES = {"done": "done", "stopped": "stopped", "interrupted": "stopped"}
"""State by outcome; every other outcome is a failure."""
VANISHED = "ended without a word: killed, out of memory, or the machine went down; see its logs"


@frozen(kw_only=True)
class RunStatus:
    """One run.

    state: 'running', 'done', 'stopped' or 'failed'; a launch that was refused before it trained changes nothing.
    why: the whole message of a failure or of such a refusal; else "". step: finished optimizer steps of `total`; None
    if unknown. loss, val_loss: the newest; None when there is none or it is not finite. changed: when something was
    last written to it, in seconds since 1970. size: bytes on disk.
    """

    run_dir: Path
    state: str
    why: str
    step: int | None
    total: int | None
    loss: float | None
    val_loss: float | None
    changed: float
    size: int


def names_of(folders: Sequence[Path]) -> list[str]:
    """The folders' names, or their paths where two have the same name."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else list(map(str, folders))


def read_status(run_dir: Path, *, is_running: Callable[[RunPaths], bool]) -> RunStatus:
    """The state of a run. is_running: whether a process holds its lock; asked only when it has not ended."""
    paths = RunPaths(run_dir)
    outcome = _outcome(paths)
    if outcome:
        before = _before_refusals(paths, outcome)[0]
        state = STATES.get(str(before["outcome"]), "failed")
        refusal = "the last launch was refused: " if before is not outcome else ""
        message = str(outcome.get("error", outcome["outcome"])) if refusal or state == "failed" else ""
        why = refusal + message.removeprefix("error: " if refusal else "")
        outcome = before
    else:
        state, why = ("running", "") if is_running(paths) else ("failed", VANISHED)
    metrics = last_metrics(paths.metrics)
    step = _whole(outcome.get("step")) if state == "done" else None
    newest = _whole(metrics.last_step.get("step"))
    size, changed = _size_and_change(run_dir)
    return RunStatus(
        run_dir=run_dir,
        state=state,
        why=why,
        step=newest if step is None else step,
        total=_total(paths) if step is None else step,
        loss=finite_number(metrics.last_step.get("loss")),
        val_loss=finite_number(metrics.last_validation.get("val_loss")),
        changed=changed,
        size=size,
    )


def recorded_config(run_dir: Path) -> dict[str, Any]:
    """The plain values of the standing launch's ``config.toml``; {} when there is none that can be read."""
    paths = RunPaths(run_dir)
    number = standing_launch(paths)
    newest = [] if number is None else [paths.launch(number).config_toml]
    for file in (*newest, paths.config_toml):
        try:
            return tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return {}


def standing_launch(paths: RunPaths) -> int | None:
    """The newest launch that was not refused before it trained, else the newest; None before the first."""
    return _before_refusals(paths, _outcome(paths))[1]


def _before_refusals(paths: RunPaths, outcome: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """The outcome of the newest launch that was not refused before it trained, and its number; else of the newest."""
    numbers = paths.launch_numbers
    for number in reversed(numbers):
        info = content_of(paths.launch(number).launch_info) if outcome.get("outcome") == "refused" else None
        before = info.get("before") if isinstance(info, dict) and "startup_seconds" not in info else None
        if number == numbers[0] or not isinstance(before, dict) or not isinstance(before.get("outcome"), str):
            return outcome, number
        outcome = before
    return outcome, None


def _total(paths: RunPaths) -> int | None:
    trainer = recorded_config(paths.root).get("trainer")
    return _whole(trainer.get("max_iter")) if isinstance(trainer, dict) else None


def _outcome(paths: RunPaths) -> dict[str, Any]:
    """The record of how the last launch ended; {} while it runs, or when it is damaged."""
    record = content_of(paths.outcome)
    return record if isinstance(record, dict) and isinstance(record.get("outcome"), str) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size_and_change(folder: Path) -> tuple[int, float]:
    """Bytes of all files below a folder, and when the newest of them (else it) was written; follows no links."""
    size, changed = 0, 0.0
    for name, facts in files_below(folder):
        size += facts.st_size
        # The report and the lock are written when somebody looks, not when the run does something.
        if name not in ("report.html", ".lock"):
            changed = max(changed, facts.st_mtime)
    if not changed:
        with suppress(OSError):
            changed = folder.stat().st_mtime
    return size, changed
