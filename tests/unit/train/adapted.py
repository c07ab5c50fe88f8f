"""The toy family with adapters, and trainers of it in this process."""

from __future__ import annotations

from pathlib import Path

import torch
from attrs import evolve, frozen
from torch import nn

from cosmos_core.builtin.tiny.family import TinyFamily
from cosmos_core.config import AdaptedModelConfig, OptimizerConfig, RunConfig
from cosmos_core.distributed import CounterRng, local_mesh
from cosmos_core.launch.stop import StopRequests
from cosmos_core.optim import initialise_lora, inject_lora
from cosmos_core.plan import RunPaths
from cosmos_core.plan.plan import WeightSource
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.train import BuildContext, Trainer
from cosmos_core.train.build import build_loader, materialise
from cosmos_core.train.checkpointing import load_training_state
from tests.benchmarks.running import trainer_of

__all__ = ["MESH", "PLUGINS", "AdaptedFamily", "config_of", "ready", "weights"]

PLUGINS, MESH = PluginManager.discover(), local_mesh()
SCRATCH = WeightSource(kind="scratch")


@frozen(kw_only=True)
class AdaptedTiny(AdaptedModelConfig):
    """The toy model's options beside those of adapters."""

    hidden: int = 16
    layers: int = 2
    noise: float = 0.0


class AdaptedFamily(TinyFamily):
    """The toy family with adapters. files: where it claims to read its weights from."""

    files: Path | None = None

    @property
    def weights_folder(self) -> Path | None:
        return self.files

    def build(self) -> nn.Module:
        model = super().build()
        inject_lora(model, self.config)  # type: ignore[arg-type]
        return model

    def initialize(self, model: nn.Module, streams: CounterRng, names: frozenset[str]) -> None:  # type: ignore[override]
        super().initialize(model, streams, names)
        initialise_lora(model, streams, names)


def config_of(*, adapters: bool, seed: int = 3, lr: float = 1e-2, strict: bool = True) -> RunConfig:
    config = load("hello", ("trainer.max_iter=3", "trainer.run_validation=false"), plugins=PLUGINS)
    options = {"lora_enabled": adapters, "lora_rank": 4, "lora_alpha": 6, "lora_target_modules": "up,down"}
    model = AdaptedTiny(init="random", precision="float32", **options)
    return evolve(
        config,
        model=evolve(model, ema=evolve(model.ema, enabled=not adapters)),
        optimizer=OptimizerConfig(lr=lr, keys_to_select=("lora_",) if adapters else ()),
        trainer=evolve(config.trainer, seed=seed),
        checkpoint=evolve(config.checkpoint, strict_resume=strict),
    )


def ready(root: Path, config: RunConfig, source: WeightSource = SCRATCH, files: Path | None = None) -> Trainer:
    family = AdaptedFamily(config.model, BuildContext(MESH.device, config.dataloader_train))  # type: ignore[arg-type]
    family.files = files
    trainer = trainer_of(config, family, materialise(config, family, MESH), MESH)
    trainer.paths = RunPaths(root)
    trainer.stop = StopRequests(trainer.paths.stop_request)
    loader = build_loader(config.dataloader_train, family, PLUGINS, MESH)
    assert loader is not None
    trainer.loader = loader
    trainer.loader_state = loader.state()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.fill_(float("nan"))
    load_training_state(trainer, source)
    return trainer


def weights(trainer: Trainer) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in trainer.model.state_dict().items()}
