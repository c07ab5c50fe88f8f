"""The toy family: regression with a residual MLP, weighted by points."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cosmos_core.builtin.tiny.config import TinyModel
from cosmos_core.builtin.tiny.estimate import estimate
from cosmos_core.builtin.tiny.network import TinyNetwork
from cosmos_core.config.run import RunConfig, TypicalSample
from cosmos_core.data.samples import Item
from cosmos_core.distributed.activation_checkpointing import apply_activation_checkpointing
from cosmos_core.distributed.compile import compile_blocks
from cosmos_core.distributed.fsdp import dtype, load_full_tensor, shard
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.train.family import BuildContext, Estimate, ModelFamily, StepOutput

__all__ = ["TinyFamily"]


@dataclass(frozen=True, slots=True)
class Points:
    """points: [n, 3]. noise: [n], standard normal, keyed by sample position."""

    points: torch.Tensor
    positions: tuple[int, ...]
    lengths: tuple[int, ...]

    def to(self, device: torch.device) -> Points:
        """The same points on `device`."""
        return replace(self, points=self.points.to(device))


class TinyFamily(ModelFamily):
    """ModelFamily whose batch counts by its points."""

    def __init__(self, config: TinyModel, context: BuildContext) -> None:
        super().__init__(config, context)
        self.config = config
        self.precision = dtype(config.precision)

    @classmethod
    def estimate(cls, config: RunConfig, sample: TypicalSample | None = None, memory: float | None = None) -> Estimate:
        """What a full micro-batch of points costs; they are all alike."""
        return estimate(config)

    def build(self) -> nn.Module:
        """The network."""
        return TinyNetwork(self.config)

    def parallelize(self, model: nn.Module, mesh: Mesh) -> None:
        """Recompute, compile, shard."""
        assert isinstance(model, TinyNetwork)
        apply_activation_checkpointing(model.blocks, self.config.activation_checkpointing)
        compile_blocks(model.blocks, self.config.compile)
        shard(model, model.blocks, mesh, self.config.parallelism, self.config.precision)

    def initialize(self, model: nn.Module, rng: CounterRng, names: Collection[str]) -> None:
        """Normal weights, std 1/sqrt(fan in); the same under any sharding."""
        for name, parameter in model.named_parameters():
            if name not in names:
                continue
            full = torch.zeros(parameter.shape)
            if parameter.ndim == 2:
                generator = rng.generator(f"init.{name}")
                full = torch.randn(parameter.shape, generator=generator) / parameter.shape[1] ** 0.5
            load_full_tensor(parameter, full)

    def prepare(self, sample: torch.Tensor) -> torch.Tensor:
        """Nothing to do."""
        return sample

    def num_tokens(self, value: torch.Tensor) -> int:
        """Points."""
        return len(value)

    def collate(self, items: Sequence[Item]) -> Points:
        """All points, one after the other."""
        return Points(
            points=torch.cat([item.value for item in items]),
            positions=tuple(item.position for item in items),
            lengths=tuple(len(item.value) for item in items),
        )

    def loss_denominator(self, batch: Points) -> float:
        """Points."""
        return float(len(batch.points))

    def training_step(self, model: nn.Module, batch: Points, rng: CounterRng) -> StepOutput:
        """Squared error against noisy targets."""
        noise = torch.cat(
            [
                torch.randn(length, generator=rng.generator("noise", position))
                for position, length in zip(batch.positions, batch.lengths, strict=True)
            ]
        ).to(batch.points.device)
        target = batch.points[:, 2] + self.config.noise * noise
        errors = self._squared_errors(model, batch, target)
        sums = torch.stack([part.sum() for part in errors.detach().split(batch.lengths)])
        samples = torch.stack([sums, torch.tensor(batch.lengths, dtype=sums.dtype, device=sums.device)])
        return StepOutput(loss=errors.sum(), tokens=len(batch.points), samples=samples)

    def validation_step(self, model: nn.Module, batch: Points, rng: CounterRng) -> dict[str, Any]:
        """Squared error and points."""
        loss = self._squared_errors(model, batch, batch.points[:, 2]).sum()
        return {"val_loss": loss, "loss_denominator": torch.tensor(float(len(batch.points)), device=loss.device)}

    def _squared_errors(self, model: nn.Module, batch: Points, target: torch.Tensor) -> torch.Tensor:
        predicted = model(batch.points[:, :2].to(self.precision)).float()
        return (predicted[:, 0] - target).square()
