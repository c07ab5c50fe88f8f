"""The generator step of a training run: collate, noise, forward, backward, clip, AdamW, average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from attrs import evolve

from cosmos_core.config import ActivationCheckpointing, Compile, RunConfig
from cosmos_core.data import Item, MicroBatch
from cosmos_core.distributed import Mesh
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load
from cosmos_core.train import BuildContext
from cosmos_core.train.build import materialise
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.sizes import NetworkConfig
from tests.benchmarks.running import fill, norm_of, stepper, trainer_of
from tests.benchmarks.vfm_case import Case

__all__ = ["Ours"]


class Ours:
    """A model with these sizes and its trainer, on one process."""

    def __init__(
        self, network: NetworkConfig, mesh: Mesh, *, recompute: str, compiled: bool, lora: bool = False
    ) -> None:
        self.network = network
        self.config = _config(recompute, compiled, lora)
        family = VfmFamily(self.config.model, BuildContext(mesh.device, self.config.dataloader_train))
        family.network = network
        model = materialise(self.config, family, mesh)
        fill(model)
        self.family, self.model = family, model
        self.run = trainer_of(self.config, family, model, mesh)

    def stepper(self, case: Case, *, repeat: bool = False) -> Callable[[], dict[str, Any]]:
        """A function that takes one optimizer step.

        repeat: use the samples and noise of the first step every time, and wait for the metrics.
        """
        return stepper(self.run, self._packs(case, repeat), exact=repeat)

    def _packs(self, case: Case, repeat: bool) -> Iterator[MicroBatch]:
        step, items = 0, case.items(0, self.network.vocab)
        while True:
            moved = [Item(step * case.clips + index, item.value) for index, item in enumerate(items)]
            yield MicroBatch(moved, {})
            step += not repeat

    def loss_and_norm(self, case: Case, step: int) -> tuple[float, float]:
        """Mean loss and gradient norm at `step`, without an update."""
        batch = self.family.collate(case.items(step, self.network.vocab)).to(self.run.mesh.device)
        loss = self.family.training_step(self.model, batch, self.run.rng).loss / case.clips
        loss.backward()
        norm = norm_of(self.model)
        self.run.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()), norm


def _config(recompute: str, compiled: bool, lora: bool) -> RunConfig:
    recipe = "vision_sft_super" if lora else "vision_sft_nano"
    config = load(
        recipe, ["model.text_tokenizer.type=words", "trainer.grad_accum_iter=1"], plugins=PluginManager.discover()
    )
    model = evolve(
        config.model,
        compile=Compile(enabled=compiled),
        activation_checkpointing=ActivationCheckpointing(mode=recompute),
        tokenizer=evolve(config.model.tokenizer, type="block_dct"),
    )
    if not torch.cuda.is_available():
        model = evolve(model, precision="float32")
    return evolve(config, model=model, optimizer=evolve(config.optimizer, fused=torch.cuda.is_available()))
