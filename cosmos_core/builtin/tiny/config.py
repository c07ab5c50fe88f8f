"""Options of the toy family and its data."""

from __future__ import annotations

from attrs import frozen

from cosmos_core.config.fields import option
from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import DatasetConfig

__all__ = ["TinyData", "TinyModel"]


@frozen(kw_only=True)
class TinyModel(ModelConfig):
    """A residual MLP."""

    hidden: int = option(16, "Width.", low=1)
    layers: int = option(2, "Residual blocks.", low=1)
    noise: float = option(
        0.0, "Standard deviation of noise added to the targets in training.", low=0, on_resume="refuse_training"
    )


@frozen(kw_only=True)
class TinyData(DatasetConfig):
    """Points x of [-1, 1]^2 with y = sin(3 x0) + x1^2, cut into groups of varying size."""

    count: int = option(64, "Number of samples.", low=1)
    seed: int = option(0, "Seed of the points.", low=0)
    broken: int = option(0, "Every so many samples one is unreadable; 0: none.", low=0)
    not_finite: int = option(0, "Every so many samples one has a target that is not finite; 0: none.", low=0)
