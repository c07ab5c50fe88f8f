"""Validation loss with fixed noise, so that figures of different steps compare."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import Any

import torch

from cosmos_core.distributed.reduce import any_rank, sum_over_data
from cosmos_core.distributed.seeds import Streams
from cosmos_core.errors import UserError
from cosmos_core.seeds import stream_seed
from cosmos_core.train.run import Run

__all__ = ["validate"]


def validate(run: Run) -> dict[str, Any]:
    """One pass over the validation data with the averaged weights when they are kept; returns the trackers' row."""
    state, loader = run.state, run.validation
    assert loader is not None
    streams = Streams(stream_seed(state.streams.seed, "validation"))
    sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64, device=state.mesh.device))
    packs = islice(iter(loader), state.config.trainer.max_val_iter)
    state.model.eval()
    batch: Any = None
    with state.ema_weights(), torch.no_grad():
        while True:
            pack = next(packs, None)
            if not any_rank(pack is not None, state.mesh):
                break
            if pack is None and batch is None:
                raise UserError(
                    f"the validation data gives rank {state.mesh.rank} no batch at all; use fewer processes, "
                    f"more samples, or a smaller dataloader_val.max_samples_per_batch"
                )
            batch = state.family.collate(pack.items).to(state.mesh.device) if pack is not None else batch
            # A rank that ran out repeats its last batch uncounted: sharded layers need every rank's hand.
            for name, value in state.family.validation_step(state.model, batch, streams).items():
                sums[name] += value.double() * (pack is not None)
    totals = {name: float(sum_over_data(value, state.mesh)) for name, value in sums.items()}
    weight = totals.pop("weight")
    return {"step": state.step, **{name: value / weight for name, value in totals.items()}}
