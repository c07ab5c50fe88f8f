"""Typed configuration: sections, layers, strict parsing, dumps. Names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosmos_core.config.env import disabled_plugins, launched_rank
    from cosmos_core.config.fields import option, required, section
    from cosmos_core.config.files import FileDatasetConfig
    from cosmos_core.config.model import (
        ActivationCheckpointing,
        AdaptedModelConfig,
        Compile,
        Ema,
        ModelConfig,
        Parallelism,
    )
    from cosmos_core.config.run import (
        CheckpointConfig,
        DataloaderConfig,
        DatasetConfig,
        JobConfig,
        OptimizerConfig,
        RunConfig,
        SchedulerConfig,
        TrackerConfig,
        TrainerConfig,
        TypicalSample,
    )

__all__ = [
    "ActivationCheckpointing",
    "AdaptedModelConfig",
    "CheckpointConfig",
    "Compile",
    "DataloaderConfig",
    "DatasetConfig",
    "Ema",
    "FileDatasetConfig",
    "JobConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Parallelism",
    "RunConfig",
    "SchedulerConfig",
    "TrackerConfig",
    "TrainerConfig",
    "TypicalSample",
    "disabled_plugins",
    "launched_rank",
    "option",
    "required",
    "section",
]

_FILES = {
    "env": ("disabled_plugins", "launched_rank"),
    "fields": ("option", "required", "section"),
    "files": ("FileDatasetConfig",),
    "model": ("ActivationCheckpointing", "AdaptedModelConfig", "Compile", "Ema", "ModelConfig", "Parallelism"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = next((file for file, names in _FILES.items() if name in names), "run")
    return getattr(import_module(f"{__name__}.{file}"), name)
