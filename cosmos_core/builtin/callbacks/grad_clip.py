"""Bounds the global gradient norm before the update."""

from __future__ import annotations

import torch

from cosmos_core.builtin.config import GradClip
from cosmos_core.optim.norm import clip_to, gradient_norm
from cosmos_core.train.callback import Callback
from cosmos_core.train.state import TrainState

__all__ = ["GradClipCallback"]


class GradClipCallback(Callback):
    """Rescales gradients by min(1, clip_norm / norm); `force_finite` first replaces NaN and infinities by zero."""

    config: GradClip

    def before_update(self, state: TrainState) -> None:
        """Clip; `state.grad_norm` is the norm before clipping."""
        assert state.grad_norm is not None
        if self.config.force_finite and not torch.isfinite(state.grad_norm):
            for parameter in state.model.parameters():
                if parameter.grad is not None:
                    parameter.grad = torch.nan_to_num(parameter.grad, nan=0.0, posinf=0.0, neginf=0.0)
            state.grad_norm = gradient_norm(state.model)
        clip_to(state.model, self.config.clip_norm, state.grad_norm)
