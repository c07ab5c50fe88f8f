"""Sample descriptions to packed network inputs: token ids, position ids, noise mask.

See docs/models/generator.md, Packed batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from attrs import frozen

from cosmos_vfm.network.packed_inputs import PackedInputs
from cosmos_vfm.network.patches import grid
from cosmos_vfm.network.sequences import JointSequences

__all__ = ["MODALITY_MARGIN", "SequenceSpec", "latent_positions", "pack_inputs", "round_fps"]

MODALITY_MARGIN = 15000
BASE_FPS = 24.0


@frozen
class SequenceSpec:
    """Tokens of one sample. text_ids: caption, eos and vision start. shape: latent (frames, height, width).

    num_condition_frames: leading latent frames that stay clean.
    """

    text_ids: tuple[int, ...]
    shape: tuple[int, int, int]
    fps: float
    num_condition_frames: int

    @property
    def latent_tokens(self) -> int:
        """Tokens in the generation tower."""
        rows, columns = grid(*self.shape[1:])
        return self.shape[0] * rows * columns


def round_fps(fps: float) -> float:
    """Fps rounded to bfloat16, as in the base models: 29.97 becomes 30."""
    return float(torch.tensor(fps, dtype=torch.bfloat16))


@lru_cache(maxsize=256)
def latent_positions(shape: tuple[int, int, int], fps: float) -> torch.Tensor:
    """float32 [3, tokens]: time, row and column of each latent token, by frame, row, column. Time starts at 0.

    Time advances by 24 / fps a latent frame.
    """
    frames, (rows, columns) = shape[0], grid(*shape[1:])
    time = torch.arange(frames).float() / round_fps(fps) * BASE_FPS
    return torch.cartesian_prod(time, torch.arange(rows).float(), torch.arange(columns).float()).T.contiguous()


def pack_inputs(samples: Sequence[SequenceSpec]) -> PackedInputs:
    """Network inputs of these samples, in order. Positions start at 0 in every sample."""
    text_positions, positions, noise_mask = [], [], []
    for sample in samples:
        length = len(sample.text_ids)
        text_positions.append(torch.arange(length).float().expand(3, -1))
        video_positions = latent_positions(sample.shape, sample.fps).clone()
        video_positions[0] += length + MODALITY_MARGIN
        positions.append(video_positions)
        per_frame = sample.latent_tokens // sample.shape[0]
        noise_mask.append(torch.arange(sample.latent_tokens) >= sample.num_condition_frames * per_frame)
    counts = [sample.latent_tokens for sample in samples]
    return PackedInputs(
        text_ids=torch.tensor([token for sample in samples for token in sample.text_ids]),
        text_positions=torch.cat(text_positions, dim=1),
        latent_positions=torch.cat(positions, dim=1),
        sample_of_latent=torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(counts)),
        noise_mask=torch.cat(noise_mask),
        sequences=JointSequences.of([len(sample.text_ids) for sample in samples], counts),
    )
