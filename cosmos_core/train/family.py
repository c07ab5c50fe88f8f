"""What a model family implements. Core calls it in the order of this file, on every rank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from attrs import frozen
from torch import nn

from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import DataloaderConfig
from cosmos_core.data.samples import Answer, Item
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.seeds import Streams
from cosmos_core.errors import UserError
from cosmos_core.plan.plan import RunPlan

__all__ = ["Batch", "BuildContext", "Estimate", "ModelFamily", "StepOutput"]


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a family may know of the run. data: the loader section whose samples it will prepare."""

    device: torch.device
    data: DataloaderConfig


class Batch(Protocol):
    """What `collate` returns."""

    def to(self, device: torch.device) -> Self:
        """The same batch with its tensors on `device`."""
        ...


@dataclass(frozen=True, slots=True)
class StepOutput:
    """loss: summed over what `loss_denominator` counts. tokens: tokens processed. metrics: further scalars summed
    alike, the same names in every batch; the log has their means."""

    loss: torch.Tensor
    tokens: int
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


@frozen(kw_only=True)
class Estimate:
    """What a plan costs, on one process. trained, frozen: parameters. activation_bytes: kept between forward and
    backward of one micro-batch. flops: of one micro-batch, forward and backward, nothing recomputed."""

    trained: int
    frozen: int
    activation_bytes: float
    flops: float


class ModelFamily(ABC):
    """A model and its training objective. Holds no optimizer, no process group, no global state.

    Built as ``Family(config, context)`` on every rank; picklable, so loader workers can hold a copy. What is not
    abstract has a default that fits most families.
    """

    def __init__(self, config: ModelConfig, context: BuildContext) -> None:
        self.context = context

    @abstractmethod
    def build(self) -> nn.Module:
        """The network as single-device code. Called under ``torch.device("meta")``."""

    @abstractmethod
    def parallelize(self, model: nn.Module, mesh: Mesh) -> None:
        """Activation checkpointing, compilation, sharding, in this order, in place."""

    @abstractmethod
    def initialize(self, model: nn.Module, streams: Streams, names: Collection[str]) -> None:
        """Fill these parameters and buffers, whose memory holds anything; no checkpoint will. Others stay as they are.

        The (sharded) model is on the device. A name gets the same values whichever others are asked for.
        """

    @property
    def weights_folder(self) -> Path | None:
        """Where `initialize` reads pretrained weights from; None when it draws them."""
        return None

    @property
    def source_revisions(self) -> Mapping[str, str]:
        """Repository and commit of what was fetched, by configuration key."""
        return {}

    @property
    def max_pack_tokens(self) -> int | None:
        """A cap on the tokens of a pack beside the loader's."""
        return None

    @abstractmethod
    def prepare(self, sample: Any) -> Any:
        """A dataset's record made ready (tokenised, checked); runs in loader workers. Raises UnreadableSample."""

    @abstractmethod
    def num_tokens(self, value: Any) -> int:
        """Tokens a prepared sample takes in a pack."""

    def kind(self, value: Any) -> str:
        """What the pool packer keeps apart; prepared samples of one kind share packs."""
        return ""

    @abstractmethod
    def collate(self, items: Sequence[Item]) -> Batch:
        """One packed micro-batch."""

    @abstractmethod
    def loss_denominator(self, batch: Any) -> float:
        """What the micro-batch counts for in the global mean, e.g. its samples or its learned tokens."""

    @abstractmethod
    def training_step(self, model: nn.Module, batch: Any, streams: Streams) -> StepOutput:
        """Forward pass and summed loss."""

    @abstractmethod
    def validation_step(self, model: nn.Module, batch: Any, streams: Streams) -> dict[str, torch.Tensor]:
        """Sums that add up over batches and ranks: ``val_loss`` and ``weight`` at least."""

    def answers(self, model: nn.Module, batch: Any) -> list[Answer]:
        """What the model says to a validation batch, for datasets that score answers."""
        return []

    def generate(self, model: nn.Module, requests: Sequence[Any], **settings: Any) -> list[Any]:
        """What the model makes of sample requests. Raises UserError when the family generates nothing."""
        raise UserError(f"{type(self).__name__} offers no generation")

    def estimate(self, plan: RunPlan) -> Estimate | None:
        """What the plan costs, from the meta device; None when the family cannot tell."""
        return None
