"""What a model family implements. Core calls it in the order of this file, on every rank."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import torch
from torch import nn

from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import DataloaderConfig
from cosmos_core.data.samples import Item
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.seeds import Streams

__all__ = ["Batch", "BuildContext", "ModelFamily", "StepOutput"]


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
    """loss: summed over what `weight` counts. tokens: tokens processed. metrics: further scalars summed alike, the
    same names in every batch; the log has their means."""

    loss: torch.Tensor
    tokens: int
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


class ModelFamily(Protocol):
    """A model and its training objective. Holds no optimizer, no process group, no global state.

    Optional: ``answers(model, batch) -> list[Answer]``, what the model says to a validation batch, for datasets that
    score; ``weights_folder: Path | None``, where a family that loads pretrained weights itself has them from;
    ``max_pack_tokens: int | None``, a cap on packs beside the loader's; ``origins: Mapping[str, str]``, repository and
    commit of what it fetched, by configuration key.
    """

    def __init__(self, config: ModelConfig, context: BuildContext) -> None: ...

    def build(self) -> nn.Module:
        """The network as single-device code. Called under ``torch.device("meta")``."""
        ...

    def parallelize(self, model: nn.Module, mesh: Mesh) -> None:
        """Recomputation, compilation, sharding, in this order, in place."""
        ...

    def initialize(self, model: nn.Module, streams: Streams, names: Collection[str]) -> None:
        """Fill these parameters and buffers, whose memory holds anything; no checkpoint will. Others stay as they are.

        The (sharded) model is on the device. A name gets the same values whichever others are asked for.
        """
        ...

    def prepare(self, sample: Any) -> Any:
        """A dataset's record made ready (tokenised, checked); runs in loader workers. Raises UnreadableSample."""
        ...

    def cost(self, value: Any) -> int:
        """Tokens a prepared sample takes in a pack."""
        ...

    def collate(self, items: Sequence[Item]) -> Batch:
        """One packed micro-batch."""
        ...

    def weight(self, batch: Any) -> float:
        """What the micro-batch counts for in the global mean."""
        ...

    def training_step(self, model: nn.Module, batch: Any, streams: Streams) -> StepOutput:
        """Forward pass and loss, summed over the batch's weight."""
        ...

    def validation_step(self, model: nn.Module, batch: Any, streams: Streams) -> dict[str, torch.Tensor]:
        """Sums that add up over batches and ranks: ``val_loss`` and ``weight`` at least."""
        ...
