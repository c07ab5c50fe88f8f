"""One optimizer step: micro-batches weighted over the whole step, one update, or none when gradients are not finite."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from cosmos_core.data.loader import Pack
from cosmos_core.distributed.fsdp import reduce_over_replicas
from cosmos_core.distributed.reduce import sum_over_data
from cosmos_core.errors import UserError
from cosmos_core.optim.norm import gradient_norm
from cosmos_core.train.run import Run

__all__ = ["optimizer_step"]


def optimizer_step(run: Run, packs: Iterator[Pack]) -> dict[str, Any]:
    """Fetch, train, update; returns the step's row for the trackers."""
    state, started = run.state, time.perf_counter()
    fetched = [next(packs) for _ in range(state.config.trainer.grad_accum_iter)]
    batches = [state.family.collate(pack.items).to(state.mesh.device) for pack in fetched]
    data_wait = time.perf_counter() - started
    loss, tokens = _accumulate(run, batches)
    state.grad_norm = gradient_norm(state.model)
    run.emit("before_update")
    rate = state.optimizer.param_groups[0]["lr"]
    norm = float(state.grad_norm)
    _update(run, finite=norm - norm == 0)
    run.loader_state = fetched[-1].state
    return {
        "step": state.step,
        "loss": loss,
        "lr": rate,
        "grad_norm": norm,
        "tokens": tokens,
        "seconds": time.perf_counter() - started,
        "data_wait": data_wait,
    }


def _accumulate(run: Run, batches: Sequence[Any]) -> tuple[float, int]:
    """Backward passes of all micro-batches; each counts by its share of the step's total weight on all ranks, so
    cutting a batch differently changes nothing."""
    state = run.state
    family, mesh, model = state.family, state.mesh, state.model
    model.train()
    # On the host, so that nobody waits for the device's last update.
    weight = torch.tensor(sum(family.weight(batch) for batch in batches), dtype=torch.float64)
    total = sum_over_data(weight, mesh).item()
    sums = torch.zeros(2, dtype=torch.float64, device=mesh.device)
    for number, batch in enumerate(batches):
        reduce_over_replicas(model, number == len(batches) - 1)
        output = family.training_step(model, batch, state.streams)
        # Gradients are averaged over data ranks when they are reduced; the factor makes that a sum.
        (output.loss * (mesh.data_world / total)).backward()
        sums[0] += output.loss.detach()
        sums[1] += output.tokens
        run.emit("micro_end")
    loss, tokens = sum_over_data(sums, mesh).tolist()
    return loss / total, int(tokens)


def _update(run: Run, *, finite: bool) -> None:
    """Optimizer, average, schedule. With non-finite gradients only the schedule moves on."""
    state = run.state
    state.step += 1
    if finite:
        state.optimizer.step()
        if run.ema is not None:
            run.ema.update(state.step)
        run.skipped_in_a_row = 0
    else:
        run.skipped_in_a_row += 1
    state.optimizer.zero_grad(set_to_none=True)
    run.scheduler.step()
    limit = state.config.trainer.max_consecutive_nan
    if run.skipped_in_a_row >= limit:
        raise UserError(
            f"{limit} steps in a row had gradients that are not finite; lower optimizer.lr, or check the data "
            f"(trainer.max_consecutive_nan sets the limit)"
        )
