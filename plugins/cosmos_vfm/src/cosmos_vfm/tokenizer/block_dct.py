"""A video tokenizer without weights: an orthonormal block DCT with the Wan 2.2 VAE's geometry.

Channels hold the lowest frequencies of each 16x16 block (later frames: 4x16x16), luminance first. The scale of a
channel falls with its frequency. That gives latents a variance between 1 and 3, which suits flow matching.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from attrs import evolve, frozen

from cosmos_vfm.tokenizer.video import CHANNELS, SPATIAL, TEMPORAL, normalise, to_pixels

__all__ = ["BlockDct"]

FIRST_GAIN = math.sqrt(TEMPORAL)
"""Scales the coefficients of the first frame to those of the frame repeated four times."""

Component = tuple[int, int, int, int]
"""Colour axis, vertical, horizontal and temporal frequency."""


def _plane(colour: int, sums: range, temporal: int) -> list[Component]:
    pairs = [(total, u) for total in sums for u in range(total + 1)]
    return [(colour, u, total - u, temporal) for total, u in pairs]


def _components(*, first: bool) -> list[Component]:
    """Component of each of the 48 channels."""
    shared = _plane(0, range(5), 0) + _plane(1, range(4), 0) + _plane(2, range(4), 0)
    if first:
        return shared + _plane(0, range(5, 7), 0)
    return shared + _plane(0, range(3), 1) + [(0, 0, 0, 2)] + _plane(1, range(2), 1) + _plane(2, range(2), 1)


def _dct(size: int) -> torch.Tensor:
    """Orthonormal DCT-II, float64; rows are basis functions."""
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    position = torch.arange(size, dtype=torch.float64)[None]
    basis = torch.cos(math.pi * (position + 0.5) * frequency / size) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def _colours() -> torch.Tensor:
    rows = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def _basis(*, first: bool) -> torch.Tensor:
    """Orthonormal rows [48, 3 * frames * 16 * 16] over a block's pixels."""
    space, time, colours = _dct(SPATIAL), _dct(TEMPORAL), _colours()
    rows = []
    for colour, u, v, k in _components(first=first):
        frames = torch.ones(1, dtype=torch.float64) if first else time[k]
        rows.append(torch.einsum("c,t,h,w->cthw", colours[colour], frames, space[u], space[v]).flatten())
    return torch.stack(rows)


@lru_cache(maxsize=1)
def _tables() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    deviation = torch.tensor(
        [2.5 / math.sqrt(1 + u + v + 8 * k) for _, u, v, k in _components(first=False)], dtype=torch.float64
    )
    return _basis(first=True).float(), _basis(first=False).float(), deviation.float()


@frozen
class BlockDct:
    """VideoVAE. first, later: orthonormal bases [48, pixels of a block]; deviation: scale of each channel, [48]."""

    first: torch.Tensor = _tables()[0]
    later: torch.Tensor = _tables()[1]
    deviation: torch.Tensor = _tables()[2]

    def compile(self) -> None:
        """Nothing to compile: encoding is two matrix products."""

    def to(self, device: torch.device) -> BlockDct:
        """On `device`."""
        return evolve(
            self, first=self.first.to(device), later=self.later.to(device), deviation=self.deviation.to(device)
        )

    def encode(self, videos: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, 1 + 4n, H, W] -> float32 [B, 48, 1 + n, H / 16, W / 16]."""
        pixels = normalise(videos)
        parts = [_project(pixels[:, :, :1], self.first * FIRST_GAIN, 1)]
        if pixels.shape[2] > 1:
            parts.append(_project(pixels[:, :, 1:], self.later, TEMPORAL))
        return torch.cat(parts, dim=2) / self.deviation[:, None, None, None]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """float32 latents -> uint8 [B, 3, 1 + 4n, H, W]; dropped frequencies are zero."""
        coefficients = latents.float() * self.deviation[:, None, None, None]
        parts = [_expand(coefficients[:, :, :1], self.first / FIRST_GAIN, 1)]
        if latents.shape[2] > 1:
            parts.append(_expand(coefficients[:, :, 1:], self.later, TEMPORAL))
        return to_pixels(torch.cat(parts, dim=2))


def _project(pixels: torch.Tensor, basis: torch.Tensor, depth: int) -> torch.Tensor:
    batch, colours, frames, height, width = pixels.shape
    blocks = pixels.view(batch, colours, frames // depth, depth, height // SPATIAL, SPATIAL, width // SPATIAL, SPATIAL)
    blocks = blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
    return (blocks @ basis.T).permute(0, 4, 1, 2, 3)


def _expand(coefficients: torch.Tensor, basis: torch.Tensor, depth: int) -> torch.Tensor:
    batch, _, frames, rows, columns = coefficients.shape
    blocks = (coefficients.permute(0, 2, 3, 4, 1) @ basis).unflatten(-1, (3, depth, SPATIAL, SPATIAL))
    pixels = blocks.permute(0, 4, 1, 5, 2, 6, 3, 7)
    return pixels.reshape(batch, 3, frames * depth, rows * SPATIAL, columns * SPATIAL)


assert len(_components(first=True)) == len(_components(first=False)) == CHANNELS
