"""What training of the toy family costs."""

from __future__ import annotations

import torch

from cosmos_core.attention.saved import SavedBytes
from cosmos_core.builtin.tiny.config import TinyModel
from cosmos_core.builtin.tiny.network import TinyNetwork
from cosmos_core.config.run import RunConfig
from cosmos_core.distributed.fsdp import dtype
from cosmos_core.optim.select import select_trainable
from cosmos_core.plan.costs import Estimate, overlong_notes, usual_samples
from cosmos_core.train.counts import count_parameters

__all__ = ["estimate"]

POINTS = 2.5
"""Of a sample, on average."""


def estimate(config: RunConfig) -> Estimate:
    """Of `config`, whose family is the toy family."""
    model = config.model
    assert isinstance(model, TinyModel)
    with torch.device("meta"):
        network = TinyNetwork(model)
    select_trainable(network, config.optimizer.keys_to_select)
    counts = count_parameters(network, network.blocks)
    samples = usual_samples(config.dataloader_train, round(POINTS))
    points = round(samples * POINTS)
    network.to(dtype(model.precision))
    with SavedBytes(network.parameters()) as saved:
        network(torch.empty(points, 2, dtype=dtype(model.precision), device="meta"))
    everything, hidden = float(sum(saved.sizes)), float(points * model.hidden * dtype(model.precision).itemsize)
    forward = 2.0 * (counts.trained + counts.frozen) * points
    return Estimate(
        parameters=counts,
        sample=f"{POINTS} points",
        samples=samples,
        tokens=points,
        kept={"none": {"activations": everything}}
        | {mode: {"activations": hidden * (model.layers + 1)} for mode in ("selective", "full")},
        working={"none": 0.0} | dict.fromkeys(("selective", "full"), everything / model.layers),
        flops=3 * forward,
        recomputed={"none": {}} | {mode: {"activations": forward} for mode in ("selective", "full")},
        width=model.hidden,
        notes=overlong_notes(config.dataloader_train, round(POINTS)),
        utilisation=None,
    )
