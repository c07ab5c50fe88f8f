"""What a run is, as typed values: sections, layers, strict structuring, dumps."""

from cosmos_core.config.fields import option, required, section
from cosmos_core.config.model import ActivationCheckpointing, Compile, Ema, ModelConfig, Parallelism
from cosmos_core.config.run import (
    CheckpointConfig,
    DataloaderConfig,
    DatasetConfig,
    JobConfig,
    OptimizerConfig,
    RunConfig,
    SchedulerConfig,
    TrainerConfig,
)

__all__ = [
    "ActivationCheckpointing",
    "CheckpointConfig",
    "Compile",
    "DataloaderConfig",
    "DatasetConfig",
    "Ema",
    "JobConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Parallelism",
    "RunConfig",
    "SchedulerConfig",
    "TrainerConfig",
    "option",
    "required",
    "section",
]
