"""From prepared samples to a pack: token streams, position ids, which tokens are noisy.

See docs/models/generator.md, Packed batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from attrs import frozen

from cosmos_vfm.network.pack import Pack
from cosmos_vfm.network.patches import grid
from cosmos_vfm.network.sequences import JointSequences

__all__ = ["MODALITY_MARGIN", "Layout", "build_pack", "latent_positions", "round_fps"]

MODALITY_MARGIN = 15000
BASE_FPS = 24.0
TEMPORAL_COMPRESSION = 4


@frozen
class Layout:
    """One sample's tokens. text_ids: caption, eos and vision start. shape: latent (frames, height, width).

    clean: number of leading latent frames that are conditions.
    """

    text_ids: tuple[int, ...]
    shape: tuple[int, int, int]
    fps: float
    clean: int

    @property
    def latent_tokens(self) -> int:
        """Tokens in the generation tower."""
        rows, columns = grid(*self.shape[1:])
        return self.shape[0] * rows * columns


def round_fps(fps: float) -> float:
    """fps as the base models saw it: rounded to bfloat16, so 29.97 is 30."""
    return float(torch.tensor(fps, dtype=torch.bfloat16))


@lru_cache(maxsize=256)
def latent_positions(shape: tuple[int, int, int], fps: float) -> torch.Tensor:
    """float32 [3, tokens] of time, row and column, time counted from 0; frame-major, then row, then column.

    Time advances by 24 / fps a latent frame.
    """
    frames, (rows, columns) = shape[0], grid(*shape[1:])
    rate = round_fps(fps) / TEMPORAL_COMPRESSION
    time = torch.arange(frames, dtype=torch.float32) / rate * (BASE_FPS / TEMPORAL_COMPRESSION)
    axes = torch.meshgrid(time, torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    return torch.stack([axis.flatten() for axis in axes])


def build_pack(samples: Sequence[Layout]) -> Pack:
    """The pack of these samples, in order; every sample's positions start anew."""
    text_positions, positions, noisy = [], [], []
    for sample in samples:
        length = len(sample.text_ids)
        text_positions.append(torch.arange(length, dtype=torch.float32).expand(3, -1))
        own = latent_positions(sample.shape, sample.fps).clone()
        own[0] += length + MODALITY_MARGIN
        positions.append(own)
        per_frame = sample.latent_tokens // sample.shape[0]
        noisy.append(torch.arange(sample.latent_tokens) >= sample.clean * per_frame)
    counts = [sample.latent_tokens for sample in samples]
    return Pack(
        text_ids=torch.tensor([token for sample in samples for token in sample.text_ids]),
        text_positions=torch.cat(text_positions, dim=1),
        latent_positions=torch.cat(positions, dim=1),
        sample_of_latent=torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(counts)),
        noisy=torch.cat(noisy),
        sequences=JointSequences.of([len(sample.text_ids) for sample in samples], counts),
    )
