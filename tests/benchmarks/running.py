"""A trainer around a model, as a run has it, for the step benchmarks: optimizer, schedule, clipping, average."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from cosmos_core.builtin.callbacks.grad_clip import GradClipCallback
from cosmos_core.builtin.config import GradClip
from cosmos_core.config import RunConfig
from cosmos_core.data import MicroBatch
from cosmos_core.distributed import CounterRng, Mesh, to_local
from cosmos_core.launch.stop import StopRequests
from cosmos_core.optim import Ema, build_adamw, build_scheduler
from cosmos_core.train import ModelFamily, Trainer
from cosmos_core.train.build import materialise
from cosmos_core.train.parts import collated
from cosmos_core.train.tracker import TrackerGroup
from cosmos_core.train.weights import initialise_rest

__all__ = ["CLIP", "fill", "fresh_model", "norm_of", "stepper", "trainer_of"]

CLIP = 0.1


@torch.no_grad()
def fill(model: torch.nn.Module) -> None:
    """Random weights of a sensible size, the same for every model with these names, drawn on the device."""
    for index, (name, parameter) in enumerate(model.named_parameters()):
        value = to_local(parameter.data)
        generator = torch.Generator(device=value.device).manual_seed(index)
        if parameter.ndim == 1:
            value.fill_(0.0 if name.endswith("bias") else 1.0)
        elif ".lora_B." in name:
            value.zero_()
        else:
            spread = (parameter.numel() // parameter.shape[0]) ** -0.5
            value.copy_(torch.randn(parameter.shape, device=value.device, generator=generator) * spread)


def fresh_model(config: RunConfig, family: ModelFamily, mesh: Mesh, rng: CounterRng) -> torch.nn.Module:
    """The network that a run without a checkpoint starts with."""
    model = materialise(config, family, mesh)
    initialise_rest(model, family, rng)
    return model


def norm_of(model: torch.nn.Module) -> float:
    """Of all gradients."""
    squares = [to_local(p.grad).float().square().sum() for p in model.parameters() if p.grad is not None]
    return float(torch.stack(squares).sum().sqrt())


def trainer_of(config: RunConfig, family: ModelFamily, model: torch.nn.Module, mesh: Mesh) -> Trainer:
    """What `train_step` needs, without data, checkpoints and trackers."""
    optimizer = build_adamw(model, config.optimizer)
    return Trainer(
        config=config,
        mesh=mesh,
        rng=CounterRng(config.trainer.seed),
        family=family,
        model=model,
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, config.scheduler),
        ema=Ema(model, config.model.ema) if config.model.ema.enabled else None,
        loader=None,  # type: ignore[arg-type]
        validation=None,
        callbacks={"grad_clip": GradClipCallback(GradClip(clip_norm=CLIP), None)},  # type: ignore[arg-type]
        trackers=TrackerGroup({}),
        paths=None,  # type: ignore[arg-type]
        stop=StopRequests(),
    )


def batches_of(trainer: Trainer, packs: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
    """Packs collated, as `train_step` takes them."""
    return (collated(pack, trainer.family, trainer.config.model.activation_checkpointing.parts) for pack in packs)


def stepper(trainer: Trainer, packs: Iterable[MicroBatch], *, exact: bool = False) -> Callable[[], dict[str, Any]]:
    """A function that takes one optimizer step and returns the newest row; exact: waits for that of this step."""
    batches = batches_of(trainer, packs)

    def step() -> dict[str, Any]:
        trainer.train_step(batches)
        if exact:
            trainer.flush()
        return trainer.record

    return step
