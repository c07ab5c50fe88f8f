"""Interpolation between clean latents and noise, and the velocity loss (docs/models/generator.md, Objective)."""

from __future__ import annotations

import torch

__all__ = ["frame_noise_mask", "interpolate", "item_losses"]


def frame_noise_mask(num_condition_frames: torch.Tensor, frames: int) -> torch.Tensor:
    """float32 [B, 1, frames, 1, 1]: 0 on the leading `num_condition_frames` [B] latent frames, 1 on the others."""
    index = torch.arange(frames, device=num_condition_frames.device)
    return (index[None] >= num_condition_frames[:, None]).float()[:, None, :, None, None]


def interpolate(
    latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, noise_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noised latents and target velocity, float32 [B, C, T, H, W]; condition frames stay clean.

    sigma: float32 [B]. noise_mask: from `frame_noise_mask`. The target is noise - latents on all frames.
    """
    masked_sigma = sigma[:, None, None, None, None] * noise_mask
    return (1 - masked_sigma) * latents + masked_sigma * noise, noise - latents


def item_losses(
    predicted: torch.Tensor, target: torch.Tensor, noise_mask: torch.Tensor, *, by_active: bool
) -> torch.Tensor:
    """Mean squared error of each item, float32 [B].

    Condition frames add zero error and stay in the denominator, unless `by_active`.
    """
    error = ((predicted.float() - target).square() * noise_mask).mean(dim=(1, 2, 3, 4))
    return error / noise_mask.mean(dim=(1, 2, 3, 4)) if by_active else error
