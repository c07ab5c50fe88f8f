"""The interface of a model family. Core calls its methods in the order of this file, on every rank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import nn

from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import DataloaderConfig, RunConfig, TypicalSample
from cosmos_core.data.samples import Answer, Item
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.errors import UserError
from cosmos_core.plan.costs import Estimate
from cosmos_core.train.model_input import ModelInput
from cosmos_core.train.timing import PhaseTimes

__all__ = ["Batch", "BuildContext", "Estimate", "ModelFamily", "StepOutput"]


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a family is told about the run. data: the configuration of the training data."""

    device: torch.device
    data: DataloaderConfig


class Batch(Protocol):
    """The return type of `collate`."""

    def to(self, device: torch.device) -> Self:
        """The same batch with its tensors on `device`."""
        ...


@dataclass(frozen=True, slots=True)
class StepOutput:
    """loss: summed over what `loss_denominator` counts.

    tokens: tokens processed. metrics: more scalars summed the same way, with the same names in every batch; their means
    are logged. flops: of forward and backward pass, without recomputation; None, always or never, where unknown.

    samples: [2, B] on the device, without gradient: the parts of each sample in `loss` and in the loss denominator, in
    the order in which `collate` got them. From it come the losses of a mixture's members; None: not known.
    """

    loss: torch.Tensor
    tokens: int
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)
    flops: float | None = None
    samples: torch.Tensor | None = None


class ModelFamily(ABC):
    """A model and its training objective. Holds no optimizer, no process group, no global state.

    Built as ``Family(config, context)`` on every rank; picklable, so loader workers can hold a copy. Methods that
    are not abstract have a default.

    times: of the step that runs; a family adds phases of its own, such as "vae".
    """

    def __init__(self, config: ModelConfig, context: BuildContext) -> None:
        self.context = context
        self.times = PhaseTimes(context.device)

    @abstractmethod
    def build(self) -> nn.Module:
        """The network as single-device code. Called under ``torch.device("meta")``."""

    @abstractmethod
    def parallelize(self, model: nn.Module, mesh: Mesh) -> None:
        """Activation checkpointing, compilation, sharding, in this order, in place."""

    @abstractmethod
    def initialize(self, model: nn.Module, rng: CounterRng, names: Collection[str]) -> None:
        """Fill these parameters and buffers, which are uninitialised and in no checkpoint. Others must not change.

        The (sharded) model is on the device. A name gets the same values whatever other names are given.
        """

    @classmethod
    def settings_of(cls, config: Any, folder: Path) -> Any:
        """The ``[model]`` section with what a base or a published folder has of its own: sizes, tokenizers, processor.

        Adapters are off: such a folder has them folded in. Raises UserError when the folder cannot be used.
        """
        return config

    @classmethod
    def answering(cls, config: Any) -> Any:
        """The ``[model]`` section for an evaluation, which wants answers even where training asks for none."""
        return config

    def load_published(self, model: nn.Module, folder: Path) -> frozenset[str]:
        """Load the weights of a published folder; returns the names of what was filled, `initialize` fills the rest.

        By default nothing, for families whose `initialize` reads the folder under the section of `settings_of`. Raises
        UserError when weights are missing or do not fit.
        """
        return frozenset()

    @property
    def weights_folder(self) -> Path | None:
        """Folder from which `initialize` reads pretrained weights; None when it draws them."""
        return None

    @property
    def source_revisions(self) -> Mapping[str, str]:
        """Repository and commit of each download, by configuration key."""
        return {}

    @property
    def num_layers(self) -> int | None:
        """How many layers the network has when it is cut; a base's other layers are left out then. None: all."""
        return None

    @property
    def max_pack_tokens(self) -> int | None:
        """A cap on the tokens of a pack besides the loader's."""
        return None

    @abstractmethod
    def prepare(self, sample: Any) -> Any:
        """Prepare a dataset's record (tokenise, check); runs in loader workers. Raises UnreadableSample."""

    @abstractmethod
    def num_tokens(self, value: Any) -> int:
        """Tokens a prepared sample takes in a pack."""

    def shorten(self, sample: Any, value: Any, policy: str, max_tokens: int) -> Any:
        """A prepared value of at most `max_tokens` instead of `value`, for policies that the descriptor names.

        Raises UnreadableSample when that cannot be done.
        """
        raise NotImplementedError

    def kind(self, value: Any) -> str:
        """Samples of different kinds never share a pack of the pool packer."""
        return ""

    def model_input(self, value: Any) -> ModelInput | None:
        """What the model gets of a prepared sample, for `cosmos data show`; None where the family does not say."""
        return None

    @abstractmethod
    def collate(self, items: Sequence[Item]) -> Batch:
        """One packed micro-batch, on the host. Called in another thread, while `training_step` has an earlier batch."""

    @abstractmethod
    def loss_denominator(self, batch: Any) -> float:
        """What the micro-batch counts for in the global mean, e.g. its samples or its supervised tokens."""

    @abstractmethod
    def training_step(self, model: nn.Module, batch: Any, rng: CounterRng) -> StepOutput:
        """Forward pass and summed loss."""

    @abstractmethod
    def validation_step(self, model: nn.Module, batch: Any, rng: CounterRng) -> dict[str, torch.Tensor]:
        """Sums that add up over batches and ranks: ``val_loss`` and ``loss_denominator`` at least."""

    @property
    def num_sample_answers(self) -> int:
        """How many answers validation asks for where the dataset does not score them; the same on all ranks."""
        return 0

    def answers(self, model: nn.Module, batch: Any) -> list[Answer]:
        """The model's answers to a validation batch: to all where the dataset scores them, else to a few."""
        return []

    def generate(self, model: nn.Module, requests: Sequence[Any], **settings: Any) -> list[Any]:
        """Samples for requests. Raises UserError when the family cannot generate."""
        raise UserError(f"{type(self).__name__} cannot generate samples")

    @classmethod
    def estimate(
        cls, config: RunConfig, sample: TypicalSample | None = None, memory: float | None = None
    ) -> Estimate | None:
        """What a full micro-batch costs, from the meta device; None if unknown.

        sample: what its samples are like; absent: as the dataset's options say. memory: GiB of each card, for work that
        is done in parts; None on a CPU. Nothing need be on disk: neither data, nor weights, nor tokenizers. Raises
        UserError.
        """
        return None
