"""The training loop: steps, and what is due after them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from cosmos_core.distributed.reduce import any_rank
from cosmos_core.errors import RunFailed, UserError
from cosmos_core.optim.lora import adapters_changed, trains_only_lora
from cosmos_core.train.agreement import SharedRefusal
from cosmos_core.train.run import Run
from cosmos_core.train.step import optimizer_step
from cosmos_core.train.validate import Evaluation, evaluate

__all__ = ["train"]


def train(run: Run) -> str:
    """Run to `max_iter` ('done') or to the first request to stop ('stopped'); a checkpoint of the end exists then.

    Of a run that fails, the last step's row reaches the log; what all ranks refuse together costs no step.
    """
    try:
        outcome = _steps(run)
    except BaseException as error:
        if isinstance(error, SharedRefusal) and run.state.step > max(run.saved_step, 0):
            run.save()
        elif run.pending is not None and run.pending.arrived:
            with suppress(RunFailed):
                run.settle()
        run.emit("failed", error)
        raise
    run.emit("train_end")
    run.loader.report()
    if outcome == "done":
        _refuse_unchanged_adapters(run)
    return outcome


def _steps(run: Run) -> str:
    state, trainer = run.state, run.state.config.trainer
    run.emit("train_start")
    if trainer.run_validation and trainer.run_validation_on_start and state.step == 0:
        run.trackers.log(_validate(run))
    packs = iter(run.loader)
    while state.step < state.max_iter:
        run.emit("step_start")
        optimizer_step(run, packs)
        run.emit("step_end")
        last = state.step == state.max_iter
        stopping = _stop_agreed(run)
        if trainer.run_validation and (state.step % trainer.validation_iter == 0 or last):
            run.settle()
            run.trackers.log(_validate(run))
        if last:
            run.settle()
            run.guard.check_at_end(state.step)
        if last or stopping or _save_due(run):
            run.save()
        if stopping and not last:
            return "stopped"
    return "done"


def _save_due(run: Run) -> bool:
    """Every `save_iter` steps; steps that are skipped put it off, so that the last good checkpoint stays the latest."""
    every, step = run.state.config.checkpoint.save_iter, run.state.step
    if step // every == max(run.saved_step, 0) // every:
        return False
    run.settle()
    return not run.guard.in_doubt


def _validate(run: Run) -> dict[str, Any]:
    """The trackers' row of one pass over the validation data, with the averaged weights when they are kept."""
    state = run.state
    assert run.validation is not None
    task = Evaluation(
        family=state.family,
        model=state.model,
        loader=run.validation,
        mesh=state.mesh,
        seed=state.streams.seed,
        weights=state.ema_weights,
        folder=run.layout.validation(state.step),
        limit=state.config.trainer.max_val_iter,
    )
    return {"step": state.step, **evaluate(task)}


def _stop_agreed(run: Run) -> bool:
    """Whether any rank was asked to stop; with several ranks the question is put every `logging_iter` steps."""
    state = run.state
    pending = run.stop.pending or state.stop_requested
    if not state.mesh.distributed:
        return pending
    due = state.step % state.config.trainer.logging_iter == 0
    return due and any_rank(pending, state.mesh)


def _refuse_unchanged_adapters(run: Run) -> None:
    """Raises UserError when the whole run left every adapter at zero."""
    state = run.state
    if trains_only_lora(state.model) and not any_rank(adapters_changed(state.model), state.mesh):
        raise UserError(
            f"{state.step} steps changed no adapter, so the model still gives the base's output; check optimizer.lr, "
            "the warm-up and the number of steps"
        )
