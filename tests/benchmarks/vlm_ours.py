"""Our reasoner step as a run takes it: collate, transfer, forward, backward, clip, AdamW."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from attrs import evolve
from torch import nn

from cosmos_core.config import ActivationCheckpointing, Compile, RunConfig
from cosmos_core.data import Item, MicroBatch
from cosmos_core.distributed import CounterRng, Mesh
from cosmos_core.optim import initialise_lora
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load
from cosmos_core.train import BuildContext
from cosmos_vlm.chat_processor import TokenizedConversation
from cosmos_vlm.config import Freeze
from cosmos_vlm.family import VlmFamily
from cosmos_vlm.weights import restore_buffers
from tests.benchmarks.running import fill, fresh_model, norm_of, stepper, trainer_of
from tests.benchmarks.vlm_case import Case

__all__ = ["Ours"]


class _Filled(VlmFamily):
    """With weights that are drawn on the device."""

    def initialize(self, model: nn.Module, rng: CounterRng, names: Collection[str]) -> None:
        restore_buffers(model)
        initialise_lora(model, rng, names)
        fill(model)


class Ours:
    """A model of `case`'s size with everything around it, on one process.

    master: dtype of the stored weights and of AdamW's moments. lr: instead of the recipe's learning rate.
    """

    def __init__(
        self,
        case: Case,
        folder: Path,
        mesh: Mesh,
        *,
        recompute: str,
        compiled: bool,
        master: str = "float32",
        lr: float | None = None,
    ) -> None:
        self.case, self.mesh = case, mesh
        self.config = _config(case, folder, recompute, compiled, master)
        if lr is not None:
            self.config = evolve(self.config, optimizer=evolve(self.config.optimizer, lr=lr))
        self.family = _Filled(self.config.model, BuildContext(mesh.device, self.config.dataloader_train))
        self.model = fresh_model(self.config, self.family, mesh, CounterRng(0))
        self.run = trainer_of(self.config, self.family, self.model, mesh)

    def dialogs(self, step: int) -> list[TokenizedConversation]:
        """The pack of a step."""
        return self.case.dialogs(step, self.family.processor)

    def stepper(self) -> Callable[[], dict[str, Any]]:
        """A function that takes one optimizer step on the pack of step 0."""
        return stepper(self.run, self.packs())

    def packs(self) -> Iterator[MicroBatch]:
        """The pack of step 0, again and again."""
        items = [Item(index, dialog) for index, dialog in enumerate(self.dialogs(0))]
        while True:
            yield MicroBatch(items, {})

    def loss_and_norm(self, step: int) -> tuple[float, float]:
        """Mean loss and gradient norm at `step`, without an update."""
        batch = self.family.collate([Item(index, dialog) for index, dialog in enumerate(self.dialogs(step))])
        loss = self.family.training_step(self.model, batch.to(self.mesh.device), CounterRng(0)).loss
        loss = loss / self.family.loss_denominator(batch)
        loss.backward()
        norm = norm_of(self.model)
        self.run.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()), norm


def _config(case: Case, folder: Path, recompute: str, compiled: bool, master: str) -> RunConfig:
    config = load("llava_ov", ["trainer.grad_accum_iter=1"], plugins=PluginManager.discover())
    options: Any = config.model
    model = evolve(
        options,
        backbone=evolve(options.backbone, model_name=str(folder), safetensors_path=None),
        compile=Compile(enabled=compiled),
        activation_checkpointing=ActivationCheckpointing(mode=recompute),
        freeze=Freeze(freeze_vision_encoder=case.frozen_tower, freeze_mm_projector=case.frozen_tower),
        parallelism=evolve(options.parallelism, fsdp_master_dtype=master),
        precision="bfloat16" if torch.cuda.is_available() else "float32",
    )
    optimizer = evolve(config.optimizer, fused=torch.cuda.is_available(), lr_multipliers={})
    return evolve(config, model=model, optimizer=optimizer)
