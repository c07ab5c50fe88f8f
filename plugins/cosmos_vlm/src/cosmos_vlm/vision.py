"""Images and videos as the vision tower takes them: sizes, patches, grids.

See docs/models/reasoner.md, Image and video sizes; docs/models/reasoner.md, Patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import interpolate

from cosmos_core.distributed import to_device

__all__ = [
    "FACTOR",
    "MERGE",
    "PATCH",
    "TEMPORAL",
    "Grid",
    "fit_image",
    "fit_video",
    "frame_pairs",
    "frames_of",
    "normalised",
    "patches_of",
    "tower_inputs",
    "tower_patches",
]

PATCH = 16
MERGE = 2
TEMPORAL = 2
FACTOR = PATCH * MERGE
MAX_RATIO = 200

Grid = tuple[int, int, int]


def _sides(height: int, width: int, frames: int, compared: int, low: int, high: int) -> tuple[int, int]:
    """Sides as multiples of 32 whose pixels over `compared` frames lie between the bounds."""
    if max(height, width) > MAX_RATIO * min(height, width):
        raise ValueError(f"an image of {width}x{height} pixels is too elongated")
    if min(height, width) < FACTOR and frames > 1:
        scale = FACTOR / min(height, width)
        height, width = int(height * scale), int(width * scale)
    rows, columns = (max(FACTOR, round(side / FACTOR) * FACTOR) for side in (height, width))
    if compared * rows * columns > high:
        shrink = math.sqrt(frames * height * width / high)
        rows, columns = (max(FACTOR, math.floor(side / shrink / FACTOR) * FACTOR) for side in (height, width))
    elif compared * rows * columns < low:
        grow = math.sqrt(low / (frames * height * width))
        rows, columns = (math.ceil(side * grow / FACTOR) * FACTOR for side in (height, width))
    return rows, columns


def fit_image(height: int, width: int, low: int, high: int) -> tuple[int, int]:
    """(height, width) that an image is resized to. Raises ValueError for extreme shapes."""
    return _sides(height, width, 1, 1, low, high)


def fit_video(frames: int, height: int, width: int, low: int, high: int) -> tuple[int, int]:
    """(height, width) that each frame of a video is resized to."""
    return _sides(height, width, frames, round(frames / TEMPORAL) * TEMPORAL, low, high)


def patches_of(frames: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, Grid]:
    """uint8 [T, 3, H, W] -> uint8 rows [T h w, 768], a patch of one frame each, and the grid (t, h, w) of frame pairs.

    Four consecutive rows become one token. Bytes are resized as bytes, which is what transformers' processor does.
    """
    if tuple(frames.shape[-2:]) != size:
        frames = interpolate(frames, size, mode="bicubic", antialias=True)
    count, h, w = len(frames), size[0] // PATCH, size[1] // PATCH
    blocks = frames.reshape(count, 3, h // MERGE, MERGE, PATCH, w // MERGE, MERGE, PATCH)
    rows = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(count * h * w, 3 * PATCH * PATCH)
    return rows, (math.ceil(count / TEMPORAL), h, w)


def frames_of(patches: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The inverse of `patches_of`: uint8 [T, 3, H, W] of rows [T h w, 768]."""
    _, h, w = grid
    blocks = patches.reshape(-1, h // MERGE, w // MERGE, MERGE, MERGE, 3, PATCH, PATCH)
    return blocks.permute(0, 5, 1, 3, 6, 2, 4, 7).reshape(-1, 3, PATCH * h, PATCH * w)


def frame_pairs(grids: Sequence[Grid], num_frames: Sequence[int]) -> torch.Tensor:
    """int64 [P, 2]: for each patch of the tower the rows of its two frames, of images and videos one after another.

    An image makes a pair with itself, as does the last of an odd number of frames.
    """
    pairs, begin = [torch.zeros(0, TEMPORAL, dtype=torch.int64)], 0
    for (t, h, w), count in zip(grids, num_frames, strict=True):
        frames = torch.arange(TEMPORAL * t).clamp_(max=count - 1).view(t, 1, TEMPORAL)
        pairs.append((begin + frames * h * w + torch.arange(h * w)[:, None]).view(-1, TEMPORAL))
        begin += count * h * w
    return torch.cat(pairs)


def tower_patches(patches: torch.Tensor, pairs: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[P, 1536] in -1..1 of uint8 [R, 768] and int64 [P, 2], as the tower takes them: by color, then frame."""
    both = normalised(patches, dtype)[pairs].view(-1, TEMPORAL, 3, PATCH * PATCH)
    return both.transpose(1, 2).reshape(-1, 3 * TEMPORAL * PATCH * PATCH)


def normalised(patches: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Bytes 0..255 as -1..1, computed in float32."""
    return patches.to(torch.float32, copy=True).div_(255).sub_(0.5).div_(0.5).to(dtype)


def tower_inputs(grids: torch.Tensor, tower: Any, device: torch.device) -> dict[str, torch.Tensor]:
    """Keyword arguments that transformers' tower would otherwise derive from grids int64 [M, 3].

    Computed on the host: on the device, the tower would synchronize for every image.
    """
    from transformers.vision_utils import (
        get_vision_cu_seqlens,
        get_vision_interpolation_indices_and_weights,
        get_vision_position_ids,
    )

    indices, weights = get_vision_interpolation_indices_and_weights(
        grids, tower.num_grid_per_side, align_corners=True, spatial_merge_size=MERGE
    )
    inputs = {
        "interp_indices": indices,
        "interp_weights": weights,
        "position_ids": get_vision_position_ids(grids, MERGE),
        "cu_seqlens": get_vision_cu_seqlens(grids),
    }
    return {name: to_device(value, device) for name, value in inputs.items()}
