"""Options of the built-in callbacks and trackers."""

from __future__ import annotations

from attrs import frozen

from cosmos_core.config.fields import option
from cosmos_core.config.run import TrackerConfig

__all__ = [
    "Console",
    "DeviceMonitor",
    "GradClip",
    "IterSpeed",
    "Jsonl",
    "LossCurve",
    "NormMonitor",
    "Profile",
    "Tensorboard",
    "Wandb",
]


@frozen(kw_only=True)
class GradClip:
    """Gradient clipping."""

    clip_norm: float = option(1.0, "Largest global L2 norm of the gradient.", above=0)
    force_finite: bool = option(True, "Replace NaN and infinite gradient entries by zero; the update is still skipped.")


@frozen(kw_only=True)
class LossCurve:
    """The loss curve of a run."""

    enabled: bool = option(True, "Draw loss_curve.png.")
    every_n: int = option(200, "Redraw every so many steps.", unit="steps", low=1, unless=("enabled", (False,)))


@frozen(kw_only=True)
class NormMonitor:
    """Norms of weights and gradients."""

    every_n: int = option(100, "Measure in the first step, then every so many steps.", unit="steps", low=1)


@frozen(kw_only=True)
class DeviceMonitor:
    """Memory, temperature, power and load of the devices."""

    every_n: int = option(200, "Read every so many steps, and at the end.", unit="steps", low=1)


@frozen(kw_only=True)
class IterSpeed:
    """Seconds a step and tokens a second."""

    every_n: int = option(50, "Steps in a window.", unit="steps", low=1)
    skip: int = option(5, "Steps to leave out at the start of a process.", unit="steps", low=0)


@frozen(kw_only=True)
class Profile:
    """A trace of some steps, and a snapshot of the GPU's memory."""

    start: int = option(20, "First step of the trace.", unit="steps", low=1)
    steps: int = option(3, "Steps in the trace.", unit="steps", low=1)
    memory: bool = option(False, "Also write what takes the GPU's memory, and record memory in the trace.")


@frozen(kw_only=True)
class Console(TrackerConfig):
    """Progress on the terminal."""


@frozen(kw_only=True)
class Jsonl(TrackerConfig):
    """The metrics file."""


@frozen(kw_only=True)
class Wandb(TrackerConfig):
    """Weights & Biases; job.wandb_mode switches it on."""

    entity: str | None = option(None, "Account or team; absent: your default one.")
    tags: tuple[str, ...] = option((), "Tags of the W&B run.")


@frozen(kw_only=True)
class Tensorboard(TrackerConfig):
    """TensorBoard event files."""
