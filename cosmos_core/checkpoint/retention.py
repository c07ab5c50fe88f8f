"""Removes old checkpoints after a new one is complete."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from cosmos_core.config.run import CheckpointConfig, KeepBest
from cosmos_core.names import did_you_mean
from cosmos_core.plan.base_users import base_users
from cosmos_core.plan.checkpoint import complete_ones
from cosmos_core.plan.hold import unheld
from cosmos_core.plan.leftovers import PARTIAL
from cosmos_core.plan.manifest import damage
from cosmos_core.plan.paths import RunPaths, step_of
from cosmos_core.report.metrics_file import read_metrics

__all__ = ["check_best", "remove_old"]

logger = logging.getLogger(__name__)

UNKNOWN = "checkpoint.keep_best.metric is '%s', which this validation lacks; until one has it all checkpoints stay; %s"


def remove_old(paths: RunPaths, config: CheckpointConfig, newest: int) -> list[Path]:
    """Remove what `keep_last`, `keep_every` and `keep_best` leave out; returns it. For one process. Raises OSError.

    newest: step of the checkpoint just written. Later ones are damaged, and the run resumed from one before them; it
    writes over them. Damaged ones take no good one's place. One that another process reads stays until later, and one
    that is the base of another run as long as that is there. As long as no validation has the metric of `keep_best`,
    all stay. A kill on the way leaves hidden folders alone, which the next save removes.
    """
    if config.keep_last is None:
        return []
    complete = {step_of(path) or 0: path for path in complete_ones(paths.checkpoints)}
    checkpoints = {step: path for step, path in complete.items() if step <= newest}
    steps = sorted(step for step, path in checkpoints.items() if not damage(path))
    keep = set(steps[-config.keep_last :])
    if config.keep_every is not None:
        keep |= {step for step in steps if step % config.keep_every == 0}
    if config.keep_best.count:
        validations = read_metrics(paths.metrics).validations
        if validations and not any(config.keep_best.metric in record for record in validations):
            return []  # `check_best` has told.
        keep |= _best(steps, _values(validations, config.keep_best.metric), config.keep_best)
    old = [path for step, path in sorted(checkpoints.items()) if step not in keep and not base_users(path)]
    return [path for path in old if _removed(path)]


def check_best(config: CheckpointConfig, metrics: Collection[str]) -> bool:
    """Warn where a validation has given other metrics than that of `keep_best`, by which checkpoints are to stay.

    Returns whether it did.
    """
    metric = config.keep_best.metric
    lacks = bool(config.keep_best.count) and config.keep_last is not None and metric not in metrics
    if lacks:
        logger.warning(UNKNOWN, metric, did_you_mean(metric, metrics) or f"there are {', '.join(metrics)}")
    return lacks


def _removed(path: Path) -> bool:
    """Remove a checkpoint unless it is being read."""
    hidden = path.with_name(f".{path.name}.removed{PARTIAL}")
    with unheld(path) as free:
        if not free:
            return False
        path.rename(hidden)
    shutil.rmtree(hidden)
    return True


def _best(steps: Sequence[int], values: dict[int, float], best: KeepBest) -> set[int]:
    """Steps of the best checkpoints; of equal ones the later."""
    sign = 1 if best.mode == "min" else -1
    newest = {step: values[max(earlier)] for step in steps if (earlier := [at for at in values if at <= step])}
    scores = {step: sign * value for step, value in newest.items() if math.isfinite(value)}
    return set(sorted(scores, key=lambda step: (scores[step], -step))[: best.count])


def _values(validations: Sequence[Mapping[str, Any]], name: str) -> dict[int, float]:
    """A metric of every validation, by step; not a number where it is not there."""
    values = {record["step"]: record.get(name) for record in validations}
    return {step: float(value) if isinstance(value, (int, float)) else math.nan for step, value in values.items()}
