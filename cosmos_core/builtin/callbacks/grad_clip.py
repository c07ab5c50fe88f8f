"""Clips the global gradient norm before the update."""

from __future__ import annotations

from cosmos_core.builtin.config import GradClip
from cosmos_core.optim.norm import clip_to, zero_non_finite
from cosmos_core.train.callback import Callback
from cosmos_core.train.trainer import Trainer

__all__ = ["GradClipCallback"]


class GradClipCallback(Callback):
    """Rescales gradients by min(1, clip_norm / norm); `force_finite` first replaces NaN and infinities by zero."""

    config: GradClip

    def before_optimizer_step(self, trainer: Trainer) -> None:
        """Clip by `trainer.grad_norm`, which the trainer has computed."""
        if self.config.force_finite:
            # Unconditional, since a check would wait for the device.
            zero_non_finite(trainer.model)
        assert trainer.grad_norm is not None
        clip_to(trainer.model, self.config.clip_norm, trainer.grad_norm)
