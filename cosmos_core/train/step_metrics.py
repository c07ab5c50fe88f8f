"""What a step reports: means over all ranks, and what the host knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cosmos_core.config.run import RunConfig
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import sum_over_data
from cosmos_core.train.family import StepOutput
from cosmos_core.train.fetch import StepBatches
from cosmos_core.train.member_metrics import MemberMetrics
from cosmos_core.train.metrics import peak_memory
from cosmos_core.train.stragglers import Stragglers

__all__ = ["StepReport"]


class StepReport:
    """The metrics of a step, for its record in the log."""

    def __init__(self, config: RunConfig, mesh: Mesh) -> None:
        self._mesh = mesh
        self._members = MemberMetrics([member.label for member in config.dataloader_train.mixture], mesh.device)
        self._stragglers = Stragglers(config.trainer.logging_iter)

    def means(self, outputs: Sequence[StepOutput], step: StepBatches) -> dict[str, torch.Tensor]:
        """Over all ranks: loss and the family's metrics averaged by the step's denominator; sums of tokens, TFLOP.

        Of a mixture also the samples and mean losses of its members. Scalars on the device; the host does not wait.
        """
        names = ["loss", *outputs[0].metrics]
        sums = torch.zeros(len(names) + 2, dtype=torch.float64, device=self._mesh.device)
        for output in outputs:
            values = {"loss": output.loss, **output.metrics}
            sums[:-2] += torch.stack([values[name].detach().double() for name in names])
            sums[-2] += output.tokens
            sums[-1] += (output.flops or 0.0) / 1e12
        of_members = self._members.sums(outputs, step.datasets)
        totals = sum_over_data(torch.cat([sums, of_members]), self._mesh)
        *means, tokens, tflop = totals[: len(sums)]
        counts = {"tokens": tokens} if outputs[0].flops is None else {"tokens": tokens, "tflop": tflop}
        mean = {name: value / step.loss_denominator for name, value in zip(names, means, strict=True)}
        has_losses = outputs[0].samples is not None
        return {**mean, **counts, **self._members.metrics(totals[len(sums) :], has_losses=has_losses)}

    def facts(self, number: int, step: StepBatches, seconds: float) -> dict[str, Any]:
        """What the host knows of step `number`, which took so long; rank 0 says which rank holds the others up."""
        if self._mesh.rank == 0 and len(step.waits) > 1:
            self._stragglers.add(step.waits, seconds)
        facts = {"step": number, "seconds": seconds, "memory_gib": peak_memory(self._mesh.device)}
        if self._mesh.distributed:
            facts["rank_wait"] = step.waited
        return facts if step.packing_efficiency is None else {**facts, "pack_filled": step.packing_efficiency}
