"""From a recipe to a finished run: the steps that `cosmos run` and `cosmos.train` share."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from os import sysconf
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from cosmos_core.config.env import disabled_plugins, launched_rank, prepare_device_memory, prepare_threads
from cosmos_core.config.env import output_root as default_output_root
from cosmos_core.config.problems import render_problem
from cosmos_core.console.terminal import show_beside
from cosmos_core.errors import Problem, RankLost, ReportedError, UserError
from cosmos_core.launch.outcome import read_outcome, write_outcome
from cosmos_core.launch.run_lock import check_free, run_lock
from cosmos_core.launch.stop import StopRequests
from cosmos_core.launch.supervisor import launch
from cosmos_core.plan.leftovers import remove_leftovers
from cosmos_core.plan.make import draft_plan, plan_in
from cosmos_core.plan.manifest import verify as verify_bytes
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.preflight import preflight
from cosmos_core.plan.record import record_run
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.loading import ConfigurationError, resolve
from cosmos_core.recipes.peek import check_can_run
from cosmos_core.recipes.written import toml_text
from cosmos_core.refs import Ref
from cosmos_core.report.page import write_own_report

__all__ = ["RunResult", "plan_run", "start_run", "train"]

logger = logging.getLogger(__name__)

EXECUTE = Ref("cosmos_core.train.worker:execute")
"""Runs a plan in this process. A reference, since this room never imports torch by itself."""

UNCHECKED = "paths, data, weights and mesh were not checked yet; they are once the keys above are right"

LEAST_OF_A_RANK = 200 * 2**20
"""Bytes of host memory that a process takes which has imported torch."""

_one_at_a_time = threading.Lock()


@frozen
class RunResult:
    """What `train` returns.

    outcome: 'done', or 'stopped' or 'interrupted' after a request to stop; a checkpoint of the end exists then.
    metrics: the records of the run directory's metrics.jsonl, oldest first: one for each step (`step`, `loss`, `lr`,
    `grad_norm`, ...) and each validation (`step`, `val_loss`, ...), earlier launches included.
    """

    run_dir: Path
    outcome: str
    metrics: list[dict[str, Any]]


def train(
    recipe: str | Path,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    output_root: str | Path | None = None,
    nproc: int | None = None,
    fresh: bool = False,
    max_restarts: int = 0,
    plugins: PluginManager | None = None,
) -> RunResult:
    """Train what a recipe says; call it again to resume. The same as `cosmos run`, from a script or a notebook.

        >>> import cosmos_core as cosmos
        >>> run = cosmos.train("hello", {"trainer.max_iter": 10})
        >>> run.outcome, run.metrics[-1]["step"]
        ('done', 10)

    recipe: a name or the path of a TOML file. overrides: {key: value}, or "key=value" texts as on the command line.
    output_root: parent of run directories. nproc: 1 (the default) trains in this process; more starts that many
    processes on this machine. Under torchrun the process takes its part in the run, and nproc is left out. fresh: take
    a new run directory instead of resuming. max_restarts: how often the whole launch is started again, and resumed,
    after a process of the run died or hung; the run then never trains in this process. plugins: by default all
    installed ones; more processes always use those.

    SIGINT (Ctrl-C, or a notebook's stop button), SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 save a checkpoint and stop, when
    called in the main thread; SIGINT or SIGTERM more than 5 seconds later raises KeyboardInterrupt at once. From
    another thread, create `.stop_requested` in the run directory. Signal and logging handlers, torch's default dtype
    and threads are afterwards what they were before.

    Raises UserError for what you can fix, RunFailed when training cannot go on.
    """
    texts = _override_texts(overrides) if isinstance(overrides, Mapping) else tuple(overrides)
    plugins = plugins if plugins is not None else PluginManager.discover(disabled_plugins())
    if not _one_at_a_time.acquire(blocking=False):
        raise UserError("this process is training already; wait for it, or use another process")
    try:
        with StopRequests().listening() as stop:
            plan = plan_run(
                str(recipe),
                texts,
                plugins=plugins,
                nproc=nproc,
                default_nproc=1,
                fresh=fresh,
                max_restarts=max_restarts,
                output_root=None if output_root is None else Path(output_root),
                notify=lambda note: logger.warning("%s", render_problem(note)),
            )
            given = ("cosmos.train", str(recipe), *texts)
            outcome = start_run(plan, plugins, stop, recipe=given[1], overrides=texts, command=given, own_process=False)
    finally:
        _one_at_a_time.release()
    paths = RunPaths(plan.run_dir)
    lines = paths.metrics.read_text(encoding="utf-8").splitlines() if paths.metrics.is_file() else []
    return RunResult(plan.run_dir, outcome, [json.loads(line) for line in lines])


def plan_run(
    recipe: str,
    overrides: Sequence[str],
    *,
    plugins: PluginManager,
    nproc: int | None,
    default_nproc: int,
    fresh: bool,
    output_root: Path | None,
    notify: Callable[[Problem], None],
    max_restarts: int = 0,
    verify: bool | None = None,
) -> RunPlan:
    """Resolve, plan and check a run; nothing is started. Raises UserError.

    notify: called with what is accepted for the sake of old recipes. verify: read the whole checkpoint and compare its
    checksums; by default after a launch that ended without saying how, or failed, and with checkpoint.fallback.
    """
    launched = launched_rank()
    if launched is not None and (nproc is not None or fresh or max_restarts):
        raise UserError(
            "nproc, fresh and max_restarts cannot be used under torchrun, which starts the processes itself"
        )
    if max_restarts < 0:
        raise UserError(f"max_restarts is {max_restarts}, but a run cannot be started again less than 0 times")
    if nproc is not None and nproc < 1:
        raise UserError(f"nproc is {nproc}, but a run needs at least one process")
    check_can_run(recipe)
    try:
        resolved = resolve(recipe, overrides, plugins=plugins)
    except ConfigurationError as error:
        raise UserError(error.title, [*error.problems, Problem(message=UNCHECKED)]) from None
    main = launched is None or launched.rank == 0
    if main:
        for note in resolved.notes:
            notify(note)
    draft = partial(
        draft_plan,
        resolved.config,
        output_root=output_root if output_root is not None else default_output_root(),
        world=launched.world if launched is not None else nproc or default_nproc,
        distributions=plugins.distributions,
        fresh=fresh,
    )
    plan = draft()
    while main and _is_damaged(plan, verify):
        plan = draft()  # Now it knows, and takes an earlier one or none.
    plan = evolve(plan, command=(recipe, *overrides), max_restarts=max_restarts)
    if main:
        preflight(plan, plugins)
    return plan.without_problems()


def _is_damaged(plan: RunPlan, verify: bool | None) -> bool:
    """Whether the run's own checkpoint holds other bytes than were written; the checkpoint notes it."""
    checkpoint, ended = plan.weights.path, read_outcome(RunPaths(plan.run_dir))
    doubtful = (ended in ("", "failed") or plan.config.checkpoint.fallback) and plan.resumes_itself
    return checkpoint is not None and (doubtful if verify is None else verify) and bool(verify_bytes(checkpoint))


def _check_memory(world: int) -> None:
    """Raises UserError for more processes than this machine holds, which would take other programs along."""
    memory = sysconf("SC_PAGE_SIZE") * sysconf("SC_PHYS_PAGES")
    if world * LEAST_OF_A_RANK > memory:
        least, there = (f"{size / 2**30:.0f} GiB" for size in (world * LEAST_OF_A_RANK, memory))
        message = f"{world} take at least {least} of memory before there are any weights; this machine has {there}"
        raise UserError("too many processes; nothing was started", [Problem(message=message, key="--nproc")])


def start_run(
    plan: RunPlan,
    plugins: PluginManager,
    stop: StopRequests,
    *,
    recipe: str,
    overrides: Sequence[str],
    command: Sequence[str],
    own_process: bool = True,
    ended: Callable[[str], None] = lambda outcome: None,
) -> str:
    """Lock the run directory, record the launch and run the plan: 'done', 'stopped' or 'interrupted'.

    A finished run is left as it is. stop: one that came before anything was written starts nothing. ended: called with
    the outcome, also of a run that failed with a reported error, on rank 0.
    own_process: whether this process may be ended when the run hangs; otherwise that is logged.

    Raises UserError, RunFailed.
    """
    launched, paths = launched_rank(), RunPaths(plan.run_dir)
    main = launched is None or launched.rank == 0
    if plan.finished:
        if main:
            check_free(paths)
            ended("done")
        return "done"
    if launched is None and stop.pending:
        ended(stop.outcome)
        return stop.outcome
    if launched is None:
        _check_memory(plan.degrees.world)
    prepare_device_memory()
    if not main:
        return _execute(plan, plugins, stop, own_process=own_process)
    with run_lock(paths):
        paths.stop_request.unlink(missing_ok=True)  # A leftover, as are the beats of a launch that was killed.
        shutil.rmtree(paths.beats, ignore_errors=True)
        record = partial(record_run, command=command, recipe=recipe, overrides=overrides)
        with suppress(OSError):  # The next save removes them too, and reports what stands in its way.
            remove_leftovers(paths.checkpoints)
        try:
            if launched is None and (plan.degrees.world > 1 or plan.max_restarts):
                outcome = _launch_ranks(plan, stop, record)
            else:
                outcome = _execute(record(plan), plugins, stop, own_process=own_process)
        except ReportedError:
            ended(read_outcome(paths))
            raise
        finally:
            paths.stop_request.unlink(missing_ok=True)
            write_own_report(plan.run_dir)
    ended(outcome)
    return outcome


def _launch_ranks(plan: RunPlan, stop: StopRequests, record: Callable[..., RunPlan]) -> str:
    """The outcome of the last launch; each one after the first resumes the one before, which lost a rank."""
    restart: dict[str, Any] = {}
    max_restarts = plan.max_restarts
    while not plan.finished:  # A rank may be lost after the last save.
        plan = record(plan, restart=restart)
        assert plan.launch is not None
        try:
            return launch(plan.run_dir, plan.launch, plan.degrees.world, stop)
        except RankLost as error:
            number = restart.get("number", 0) + 1
            if number > max_restarts or stop.pending:
                raise
            restart = {"number": number, "after": error.title}
            show_beside(f"warning: {error.title}; starting again ({number} of at most {max_restarts} times)")
        again = partial(plan_in, world=plan.degrees.world, distributions=plan.distributions)
        plan = again(plan.run_dir, plan.config)
        if _is_damaged(plan, None):
            plan = again(plan.run_dir, plan.config)  # Now it knows.
    write_outcome(RunPaths(plan.run_dir), {"outcome": "done", "step": plan.config.trainer.max_iter})
    return "done"


def _execute(plan: RunPlan, plugins: PluginManager, stop: StopRequests, *, own_process: bool) -> str:
    prepare_threads()
    return str(EXECUTE.load()(plan, plugins, stop, own_process=own_process))


def _override_texts(overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """Each as "key=value" with a TOML value, which is how a launch records them."""
    return tuple(f"{key}={_toml(value, key)}" for key, value in overrides.items())


def _toml(value: Any, key: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str | Path):
        return toml_text(str(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item, key) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = (f"{toml_text(str(name))} = {_toml(item, key)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    problem = Problem(message=f"a value of type {type(value).__name__} cannot be written in a recipe", key=key)
    raise UserError("bad override; nothing was started", [problem])
