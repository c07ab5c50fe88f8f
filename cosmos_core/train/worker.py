"""One rank: executes the run recorded in a run directory and records how it ended."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from cosmos_core.config.env import disabled_plugins, error_file, launched_rank
from cosmos_core.config.problems import render
from cosmos_core.config.structure import read_resolved
from cosmos_core.console.logs import logging_to_console
from cosmos_core.console.streams import steady_streams
from cosmos_core.console.terminal import leave_drawing
from cosmos_core.errors import ReportedError, disk_faults_reported
from cosmos_core.launch.bytecode import NO_BYTECODE, keeps_bytecode
from cosmos_core.launch.error_files import any_rank_reported, error_recorded
from cosmos_core.launch.outcome import EXIT_CODES, error_outcome, read_outcome, write_outcome
from cosmos_core.launch.stop import StopRequests
from cosmos_core.plan.make import plan_in
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.activity import Activity
from cosmos_core.train.watch import Watch

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from cosmos_core.train.startup import StartUp

__all__ = ["execute", "main"]


def execute(plan: RunPlan, plugins: PluginManager, stop: StopRequests, *, own_process: bool = True) -> str:
    """Run the plan on this rank: 'done', 'stopped' or 'interrupted'; ``outcome.json`` says how it ended.

    Rank 0 logs to the console, the other ranks their warnings. stop: requests to save and stop.
    own_process: whether this process may be ended when the run hangs; otherwise that is logged.
    """
    from cosmos_core.train.process_state import preserved_process_state

    launched = launched_rank()
    packages = {status.candidate.module.partition(".")[0] for status in plugins.statuses}
    with preserved_process_state(), logging_to_console(launched.rank if launched is not None else 0, packages):
        return _execute(plan, plugins, stop, own_process=own_process or launched is not None)


def _execute(plan: RunPlan, plugins: PluginManager, stop: StopRequests, *, own_process: bool) -> str:
    from cosmos_core.train.run import run

    launched = launched_rank()
    startup = _clock(plan)
    activity = Activity(RunPaths(plan.run_dir).beats if plan.launch is not None else None)
    watch = Watch(
        activity,
        rank=launched.rank if launched is not None else 0,
        world=plan.degrees.world,
        config=plan.config.trainer,
        stop=stop,
        end=partial(_end, plan) if own_process else _log,
    )
    try:
        with watch.running(), disk_faults_reported(plan.run_dir):
            result = run(plan, plugins, startup=startup, stop=stop, activity=activity)
    except BaseException as error:
        with suppress(OSError):  # A full disk does not take the outcome either; the error matters more.
            _record(plan, error_outcome(error), reported=isinstance(error, ReportedError))
        raise
    _record(plan, {"outcome": result.outcome, "step": result.step, "seconds": round(result.seconds, 3)})
    return result.outcome


def _end(plan: RunPlan, error: ReportedError) -> None:
    """End this rank from another thread, since the one that trains may never return."""
    logger.debug("the watch ends this rank", exc_info=error)
    with suppress(ReportedError), error_recorded():
        raise error
    _record(plan, error_outcome(error), reported=True)
    if error_file() is None:  # Else the launcher tells, or torchrun.
        shutil.rmtree(RunPaths(plan.run_dir).beats, ignore_errors=True)
        leave_drawing()
        print(render(error), file=sys.stderr, flush=True)
    os._exit(EXIT_CODES["failed"])


def _log(error: ReportedError) -> None:
    logger.error("%s", render(error))


def _clock(plan: RunPlan) -> StartUp:
    """Since the command recorded this launch: other processes than its own had to start, and modules to load."""
    from cosmos_core.train.startup import StartUp

    launched = launched_rank()
    if plan.launch is None:
        return StartUp(silent=True)
    recorded = RunPaths(plan.run_dir).launch(plan.launch).launch_info.stat().st_mtime
    startup = StartUp(recorded, silent=launched is not None and launched.rank > 0)
    if launched is not None:
        startup.mark("processes", at=psutil.Process().create_time())
    startup.mark("imports")
    if not startup.silent and not keeps_bytecode():
        logger.warning("%s", NO_BYTECODE)
    return startup


def _record(plan: RunPlan, record: dict[str, Any], *, reported: bool = False) -> None:
    """Rank 0 records how the run ended.

    A reported error is recorded by the rank that has it, and stays: peers of a rank that left fail in a collective,
    which says nothing.
    """
    launched, paths = launched_rank(), RunPaths(plan.run_dir)
    superseded = record["outcome"] == "failed" and bool(read_outcome(paths))
    # A rank that resolved `${now:...}` apart and left before it heard of rank 0's directory has none.
    if paths.root.is_dir() and (reported or launched is None or (launched.rank == 0 and not superseded)):
        write_outcome(paths, record, writer=f".{launched.rank}" if launched is not None else "")


def _work(run_dir: Path, launch: int) -> int:
    """The exit code. Raises what is not a reported error, or the consequence of one."""
    launched = launched_rank()
    assert launched is not None, "torchrun starts this module"
    plugins = PluginManager.discover(disabled_plugins())
    try:
        with error_recorded():
            config = read_resolved(RunPaths(run_dir).launch(launch).config_toml, plugins.registry)
            plan = plan_in(run_dir, config, world=launched.world, distributions=plugins.distributions, launch=launch)
            execute(plan, plugins, StopRequests())  # The launcher passes requests on as a file.
    except ReportedError as error:
        return EXIT_CODES[error_outcome(error)["outcome"]]
    except Exception:
        if not any_rank_reported():
            raise
        return EXIT_CODES["failed"]  # That rank left a collective; a traceback from here would hide its message.
    return EXIT_CODES["done"]


def main(run_dir: str, launch: str) -> int:
    """The program of each child of our agent; returns the exit code."""
    steady_streams()
    from torch.distributed.elastic.multiprocessing.errors import record

    code = record(_work)(Path(run_dir), int(launch))
    assert code is not None, "it is None only for SystemExit"
    return code
