"""Interpolation between clean latents and noise, and the loss on the velocity (docs/models/generator.md, Objective)."""

from __future__ import annotations

import torch

__all__ = ["interpolate", "item_losses", "noisy_frames"]


def noisy_frames(clean: torch.Tensor, frames: int) -> torch.Tensor:
    """float32 [B, 1, frames, 1, 1]: 1 on noisy latent frames, 0 on the `clean` [B] leading ones."""
    index = torch.arange(frames, device=clean.device)
    return (index[None] >= clean[:, None]).float()[:, None, :, None, None]


def interpolate(
    latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, noisy: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noised latents and target velocity, float32 [B, C, T, H, W]; conditioned frames stay clean.

    sigma: float32 [B]. noisy: as `noisy_frames`. The target is noise - latents on all frames.
    """
    level = sigma[:, None, None, None, None] * noisy
    return (1 - level) * latents + level * noise, noise - latents


def item_losses(predicted: torch.Tensor, target: torch.Tensor, noisy: torch.Tensor, *, by_active: bool) -> torch.Tensor:
    """Mean squared error of each item, float32 [B].

    Conditioned frames count zero but stay in the denominator, unless `by_active`.
    """
    error = ((predicted.float() - target).square() * noisy).mean(dim=(1, 2, 3, 4))
    return error / noisy.mean(dim=(1, 2, 3, 4)) if by_active else error
