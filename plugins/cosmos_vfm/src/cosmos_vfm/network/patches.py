"""Latents to tokens of 2x2 patches and back (docs/models/generator.md, Latent tokens)."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

__all__ = ["PATCH", "grid", "patchify", "unpatchify"]

PATCH = 2


def grid(height: int, width: int) -> tuple[int, int]:
    """Token rows and columns of a latent. Odd sides are padded."""
    return -(-height // PATCH), -(-width // PATCH)


def patchify(latents: torch.Tensor) -> torch.Tensor:
    """[B, C, T, H, W] -> [B, T * rows * columns, 4 C]; in a token the channel changes fastest, then width, height."""
    batch, channels, frames, height, width = latents.shape
    rows, columns = grid(height, width)
    latents = pad(latents, (0, columns * PATCH - width, 0, rows * PATCH - height))
    patches = latents.view(batch, channels, frames, rows, PATCH, columns, PATCH)
    return patches.permute(0, 2, 3, 5, 4, 6, 1).reshape(batch, frames * rows * columns, PATCH * PATCH * channels)


def unpatchify(tokens: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The inverse for latents of `shape` [C, T, H, W], without the padding."""
    channels, frames, height, width = shape
    rows, columns = grid(height, width)
    patches = tokens.view(tokens.shape[0], frames, rows, columns, PATCH, PATCH, channels)
    padded = patches.permute(0, 6, 1, 2, 4, 3, 5).reshape(-1, channels, frames, rows * PATCH, columns * PATCH)
    return padded[..., :height, :width]
