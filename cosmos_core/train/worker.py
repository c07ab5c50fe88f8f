"""One rank: executes the run recorded in a run directory and records how it ended."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from cosmos_core.config.env import LaunchedRank, disabled_plugins, launched_rank
from cosmos_core.config.problems import render
from cosmos_core.config.structure import read_resolved
from cosmos_core.errors import ReportedError, RunFailed, UserError
from cosmos_core.launch.hard_exit import hard_exit
from cosmos_core.launch.parent_death import set_parent_death_signal
from cosmos_core.launch.supervisor import recorded
from cosmos_core.plan.layout import RUN_FORMAT, RunLayout
from cosmos_core.plan.make import plan_in
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.record import replace_file
from cosmos_core.plan.warnings import warnings
from cosmos_core.plugin.manager import PluginManager

__all__ = ["execute", "main"]

logger = logging.getLogger(__name__)

PATIENCE = 30
"""Tenths of a second."""


def execute(plan: RunPlan, plugins: PluginManager) -> str:
    """Run the plan on this rank; 'done' or 'stopped'. ``outcome.json`` says how rank 0 ended, or why a rank was
    refused. Rank 0 logs what the plan warns of."""
    from cosmos_core.train.run import run

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    launched, layout = launched_rank(), RunLayout(plan.run_dir)
    main = launched is None or launched.rank == 0
    if main:
        for change in plan.changes:
            logger.warning("changed since %s: %s", plan.resume.source, change)
        for warning in warnings(plan):
            logger.warning("%s", warning)
    record: dict[str, Any] = {"outcome": "failed"}
    try:
        result = run(plan, plugins)
        record = {"outcome": result.outcome, "step": result.step, "seconds": round(result.seconds, 3)}
        return result.outcome
    except UserError as error:
        record, main = {"outcome": "refused", "error": render(error)}, True
        raise
    except RunFailed as error:
        record = {"outcome": "diverged", "error": render(error)}
        raise
    except BaseException as error:
        record["error"] = f"{type(error).__name__}: {error}"
        main = main and not _refused_elsewhere(layout, launched)
        raise
    finally:
        if main:
            _record(layout, record, launched)


def _record(layout: RunLayout, record: dict[str, Any], launched: LaunchedRank | None) -> None:
    """A rank that resolved `${now:...}` apart and left before it heard of rank 0's directory has none."""
    if layout.root.is_dir():
        writer = f".{launched.rank}" if launched is not None else ""
        replace_file(layout.outcome, json.dumps({"format": RUN_FORMAT, **record}).encode(), writer=writer)


def _refused_elsewhere(layout: RunLayout, launched: LaunchedRank | None) -> bool:
    """Whether another rank was refused, so that this one fails only because that one left; asked for a while, since
    its record may still be on its way."""
    for _ in range(PATIENCE if launched is not None and launched.world > 1 else 0):
        if recorded(layout) == "refused":
            return True
        time.sleep(0.1)
    return False


def main(arguments: list[str]) -> None:
    """``python -m cosmos_core.train.worker RUN_DIR LAUNCH`` under torchrun."""
    set_parent_death_signal()
    launched = launched_rank()
    assert launched is not None, "torchrun starts this module"
    run_dir, launch = Path(arguments[0]), int(arguments[1])
    plugins = PluginManager.discover(disabled_plugins())
    layout = RunLayout(run_dir)
    try:
        config = read_resolved(layout.launch(launch).config_toml, plugins.registry)
        plan = plan_in(run_dir, config, world=launched.world, distributions=plugins.distributions, launch=launch)
        execute(plan, plugins)
    except ReportedError as error:
        # The supervisor says why and chooses the exit code; torchrun would add a traceback to a failure.
        if isinstance(error, UserError) and not recorded(layout):
            _record(layout, {"outcome": "refused", "error": render(error)}, launched)
    except BaseException:
        if recorded(layout) != "refused":
            raise


if __name__ == "__main__":
    main(sys.argv[1:])
    hard_exit(0)
