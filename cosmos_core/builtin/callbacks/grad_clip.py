"""Bounds the global gradient norm before the update."""

from __future__ import annotations

from cosmos_core.builtin.config import GradClip
from cosmos_core.optim.norm import clip_to, zero_non_finite
from cosmos_core.train.callback import Callback
from cosmos_core.train.state import TrainState

__all__ = ["GradClipCallback"]


class GradClipCallback(Callback):
    """Rescales gradients by min(1, clip_norm / norm); `force_finite` first replaces NaN and infinities by zero."""

    config: GradClip

    def before_update(self, state: TrainState) -> None:
        """Clip by `state.grad_norm`, the norm that the loop measured."""
        if self.config.force_finite:
            # Always, since asking whether it is needed would wait for the device.
            zero_non_finite(state.model)
        assert state.grad_norm is not None
        clip_to(state.model, self.config.clip_norm, state.grad_norm)
