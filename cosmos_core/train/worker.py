"""One rank: executes the run recorded in a run directory and records how it ended."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from cosmos_core.config.env import launched_rank
from cosmos_core.config.problems import render
from cosmos_core.config.structure import read_resolved
from cosmos_core.errors import UserError
from cosmos_core.launch.ending import end_process
from cosmos_core.plan.layout import RunLayout
from cosmos_core.plan.make import plan_in
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.record import replace_file
from cosmos_core.plugin.manager import PluginManager

__all__ = ["execute", "main"]


def execute(plan: RunPlan, plugins: PluginManager) -> str:
    """Run the plan on this rank; 'done' or 'stopped'. Rank 0 writes ``outcome.json`` however it ends."""
    from cosmos_core.train.session import run

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    launched = launched_rank()
    record: dict[str, Any] = {"outcome": "failed"}
    try:
        result = run(plan, plugins)
        record = {"outcome": result.outcome, "step": result.step, "seconds": round(result.seconds, 3)}
        return result.outcome
    except UserError as error:
        record = {"outcome": "refused", "error": str(error)}
        raise
    except BaseException as error:
        record["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        if launched is None or launched.rank == 0:
            replace_file(RunLayout(plan.run_dir).outcome, json.dumps(record).encode())


def main(arguments: list[str]) -> None:
    """``python -m cosmos_core.train.worker RUN_DIR`` under torchrun."""
    launched = launched_rank()
    assert launched is not None, "torchrun starts this module"
    run_dir = Path(arguments[0])
    plugins = PluginManager.discover()
    try:
        config = read_resolved(RunLayout(run_dir).config_toml, plugins.catalog)
        execute(plan_in(run_dir, config, world=launched.world, distributions=plugins.distributions), plugins)
    except UserError as error:
        # Recorded for the supervisor, which exits with 2; a failing rank would make torchrun print a traceback.
        if launched.rank == 0:
            print(render(error), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
    end_process(0)
