"""Our generator step as a run takes it: collate, noise, forward, backward, clip, AdamW, average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from attrs import evolve

from cosmos_core.builtin.callbacks.grad_clip import GradClipCallback
from cosmos_core.builtin.config import GradClip
from cosmos_core.config import ActivationCheckpointing, Compile, RunConfig
from cosmos_core.data import Item, Pack
from cosmos_core.distributed import Mesh, Streams, local
from cosmos_core.optim import Ema, build_adamw, build_scheduler
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load
from cosmos_core.train import BuildContext, TrainState
from cosmos_core.train.build import build_model
from cosmos_core.train.run import Run, Trackers
from cosmos_core.train.step import optimizer_step
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.tiers import NetworkConfig
from tests.benchmarks.vfm_case import SEED, Case

__all__ = ["Ours", "fill"]


def fill(model: torch.nn.Module) -> None:
    """Random weights of a sensible size, the same for every model with these names, drawn on the device."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        value = local(parameter.data)
        generator = torch.Generator(device=value.device).manual_seed(index)
        if parameter.ndim == 1:
            value.fill_(0.0 if name.endswith("bias") else 1.0)
        elif ".lora_B." in name:
            value.zero_()
        else:
            value.copy_(
                torch.randn(parameter.shape, device=value.device, generator=generator) * parameter.shape[1] ** -0.5
            )


class Ours:
    """A model of `network`'s size with everything around it, on one process."""

    def __init__(
        self, network: NetworkConfig, mesh: Mesh, *, recompute: str, compiled: bool, lora: bool = False
    ) -> None:
        self.network = network
        self.config = _config(recompute, compiled, lora)
        family = VfmFamily(self.config.model, BuildContext(mesh.device, self.config.dataloader_train))
        family.network = network
        streams = Streams(SEED)
        model = build_model(self.config, family, mesh, streams)
        fill(model)
        optimizer = build_adamw(model, self.config.optimizer)
        self.family, self.model = family, model
        state = TrainState(
            config=self.config,
            family=family,
            model=model,
            optimizer=optimizer,
            mesh=mesh,
            streams=streams,
            step=0,
            max_iter=10**6,
            log=lambda row: None,
            ema_weights=None,  # type: ignore[arg-type]
            train_source=None,  # type: ignore[arg-type]
        )
        clip = GradClipCallback(GradClip(clip_norm=0.1), None)  # type: ignore[arg-type]
        self.run = Run(
            state=state,
            layout=None,  # type: ignore[arg-type]
            scheduler=build_scheduler(optimizer, self.config.scheduler),
            ema=Ema(model, self.config.model.ema) if self.config.model.ema.enabled else None,
            loader=None,  # type: ignore[arg-type]
            validation=None,
            callbacks={"grad_clip": clip},
            trackers=Trackers({}),
            stop=None,  # type: ignore[arg-type]
            loader_state={},
        )

    def stepper(self, case: Case, *, repeat: bool = False) -> Callable[[], dict[str, Any]]:
        """A function that takes one optimizer step; repeat: always on the first step's samples and noise."""
        packs = self._packs(case, repeat)
        return lambda: optimizer_step(self.run, packs)

    def _packs(self, case: Case, repeat: bool) -> Iterator[Pack]:
        step, items = 0, case.items(0, self.network.vocab)
        while True:
            moved = [Item(step * case.clips + index, item.value) for index, item in enumerate(items)]
            yield Pack(moved, {})
            step += not repeat

    def loss_and_norm(self, case: Case, step: int) -> tuple[float, float]:
        """Mean loss and gradient norm at `step`, without an update."""
        batch = self.family.collate(case.items(step, self.network.vocab)).to(self.run.state.mesh.device)
        loss = self.family.training_step(self.model, batch, self.run.state.streams).loss / case.clips
        loss.backward()
        squares = [local(p.grad).float().square().sum() for p in self.model.parameters() if p.grad is not None]
        norm = float(torch.stack(squares).sum().sqrt())
        self.run.state.optimizer.zero_grad(set_to_none=True)
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
