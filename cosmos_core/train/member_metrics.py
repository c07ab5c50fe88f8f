"""Samples and mean losses of a mixture's members, in the metrics of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cosmos_core.distributed.to_device import to_device
from cosmos_core.train.family import StepOutput

__all__ = ["MemberMetrics", "on_host"]

SAMPLES, LOSS = "samples/", "loss/"


class MemberMetrics:
    """Sums that add up over ranks, and the metrics that they give; nothing for data of one dataset."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        """names: of the members; none without a mixture."""
        self.names, self.device = list(names), device

    def sums(self, outputs: Sequence[StepOutput], datasets: Sequence[Sequence[str]]) -> torch.Tensor:
        """float64 [3 x members]: samples, losses and parts of the loss denominator of this rank. Does not wait.

        datasets: the member that each sample comes from, one list an output.
        """
        sums = torch.zeros(3, len(self.names), dtype=torch.float64, device=self.device)
        for output, members in zip(outputs, datasets, strict=True) if self.names else ():
            indices = to_device(torch.tensor([self.names.index(name) for name in members]), self.device)
            sums[0].index_add_(0, indices, torch.ones(len(members), dtype=torch.float64, device=self.device))
            if output.samples is not None:
                sums[1:].index_add_(1, indices, output.samples.double())
        return sums.flatten()

    def metrics(self, sums: torch.Tensor, *, has_losses: bool) -> dict[str, torch.Tensor]:
        """``samples/NAME`` and ``loss/NAME`` from the sums over all ranks; a loss without samples is NaN.

        has_losses: whether the family tells the losses of samples.
        """
        samples, losses, denominators = sums.view(3, len(self.names))
        counts = {f"{SAMPLES}{name}": count for name, count in zip(self.names, samples, strict=True)}
        if not has_losses:
            return counts
        means = {f"{LOSS}{name}": mean for name, mean in zip(self.names, losses / denominators, strict=True)}
        return {**counts, **means}


def on_host(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics with whole numbers of samples, and without the losses of members that gave none."""
    counts = {name: int(value) for name, value in metrics.items() if name.startswith(SAMPLES)}
    absent = {LOSS + name.removeprefix(SAMPLES) for name, count in counts.items() if not count}
    return {name: counts.get(name, value) for name, value in metrics.items() if name not in absent}
