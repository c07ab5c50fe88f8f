"""One optimizer step: micro-batches weighted over the whole step, one update, or none when gradients are not finite.

The host never waits for the device: figures are read when the next step's gradients are under way, and the optimizer's
own kernel looks whether it may update. Loss and gradient norm are judged before any callback repairs them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from cosmos_core.data.loader import Pack
from cosmos_core.distributed.fsdp import reduce_over_replicas
from cosmos_core.distributed.reduce import sum_over_data
from cosmos_core.errors import UserError
from cosmos_core.optim.norm import gradient_norm
from cosmos_core.optim.select import learning_rates
from cosmos_core.train.agreement import raise_on_all
from cosmos_core.train.pending import PendingRow
from cosmos_core.train.run import Run

__all__ = ["optimizer_step"]


def optimizer_step(run: Run, packs: Iterator[Pack]) -> None:
    """Fetch, train, update. The step's row reaches `state.metrics` and the trackers with `run.settle`.

    Raises SharedRefusal when one rank cannot use its data.
    """
    state, started = run.state, time.perf_counter()
    batches, fetched, total = _fetch(run, packs)
    data_wait = time.perf_counter() - started
    figures, losses = _accumulate(run, batches, total)
    state.grad_norm = norm = gradient_norm(state.model)
    finite = torch.isfinite(figures["loss"]) & torch.isfinite(norm)
    run.emit("before_update")
    rates = learning_rates(state.optimizer, run.rate_names)
    run.settle()
    _update(run, finite)
    run.loader_state = fetched[-1].state
    known = {"step": state.step, **rates, "seconds": time.perf_counter() - started, "data_wait": data_wait}
    keys = [tuple(item.key for item in pack.items) for pack in fetched]
    run.pending = PendingRow({**known, **_filled(fetched)}, {**figures, "grad_norm": norm}, losses, keys)
    if state.mesh.device.type == "cpu":
        run.settle()


def _filled(packs: Sequence[Pack]) -> dict[str, float]:
    """How full this rank's packs are on average, where they have a cap."""
    shares = [pack.filled for pack in packs if pack.filled is not None]
    return {"pack_filled": sum(shares) / len(shares)} if shares else {}


def _fetch(run: Run, packs: Iterator[Pack]) -> tuple[list[Any], list[Pack], float]:
    """The step's batches, their packs, and their weight on all ranks."""
    state, batches, fetched = run.state, [], []
    refusal: UserError | None = None
    try:
        for _ in range(state.config.trainer.grad_accum_iter):
            fetched.append(next(packs))
            batches.append(state.family.collate(fetched[-1].items).to(state.mesh.device))
    except UserError as error:
        refusal = error
    # On the host, so that nobody waits for the device's last update.
    mine = [sum(state.family.weight(batch) for batch in batches), float(refusal is not None)]
    weight, refused = sum_over_data(torch.tensor(mine, dtype=torch.float64), state.mesh).tolist()
    if refused:
        raise_on_all(refusal, state.mesh)
    return batches, fetched, weight


def _accumulate(run: Run, batches: Sequence[Any], total: float) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """Backward passes of all micro-batches; each counts by its share of the step's total weight on all ranks, so
    cutting a batch differently changes nothing.

    Returns means of loss and metrics over all ranks with the number of tokens, and this rank's own losses.
    """
    state = run.state
    mesh, model = state.mesh, state.model
    model.train()
    sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64, device=mesh.device))
    losses = []
    for number, batch in enumerate(batches):
        reduce_over_replicas(model, number == len(batches) - 1)
        output = state.family.training_step(model, batch, state.streams)
        # Gradients are averaged over data ranks when they are reduced; the factor makes that a sum.
        (output.loss * (mesh.data_world / total)).backward()
        for name, value in {"loss": output.loss, **output.metrics}.items():
            sums[name] += value.detach()
        sums["tokens"] += output.tokens
        losses.append(output.loss.detach())
        run.emit("micro_end")
    whole = dict(zip(sums, sum_over_data(torch.stack(list(sums.values())), mesh), strict=True))
    return {name: value if name == "tokens" else value / total for name, value in whole.items()}, losses


def _update(run: Run, finite: torch.Tensor) -> None:
    """Optimizer and schedule. With non-finite gradients only the schedule moves on."""
    optimizer = run.state.optimizer
    run.state.step += 1
    if all(group["fused"] for group in optimizer.param_groups):
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    run.scheduler.step()
