"""Images and videos as the vision tower takes them: sizes, patches, grids.

See docs/models/reasoner.md, Image and video sizes; docs/models/reasoner.md, Patches.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import interpolate

from cosmos_core.distributed import to_device

__all__ = [
    "FACTOR",
    "MERGE",
    "PATCH",
    "TEMPORAL",
    "fit_image",
    "fit_video",
    "frames_of",
    "normalised",
    "patches_of",
    "tower_inputs",
]

PATCH = 16
MERGE = 2
TEMPORAL = 2
FACTOR = PATCH * MERGE
LARGEST_RATIO = 200


def _sides(height: int, width: int, frames: int, compared: int, low: int, high: int) -> tuple[int, int]:
    """Sides as multiples of 32 whose pixels over `compared` frames lie between the bounds."""
    if max(height, width) > LARGEST_RATIO * min(height, width):
        raise ValueError(f"an image of {width}x{height} pixels is too elongated")
    if min(height, width) < FACTOR and frames > 1:
        scale = FACTOR / min(height, width)
        height, width = math.ceil(height * scale), math.ceil(width * scale)
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


def patches_of(frames: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """uint8 [T, 3, H, W] -> uint8 rows [t h w, 1536] and the grid (t, h, w).

    An odd number of frames is completed by repeating the last. Four consecutive rows become one token.
    """
    if tuple(frames.shape[-2:]) != size:
        resized = interpolate(frames.float(), size, mode="bicubic", antialias=True)
        frames = resized.round_().clamp_(0, 255).to(torch.uint8)
    if len(frames) % TEMPORAL:
        frames = torch.cat([frames, frames[-1:]])
    t, h, w = len(frames) // TEMPORAL, size[0] // PATCH, size[1] // PATCH
    blocks = frames.reshape(t, TEMPORAL, 3, h // MERGE, MERGE, PATCH, w // MERGE, MERGE, PATCH)
    rows = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * h * w, 3 * TEMPORAL * PATCH * PATCH)
    return rows, (t, h, w)


def frames_of(patches: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
    """The inverse of `patches_of`: uint8 [T, 3, H, W] of rows [t h w, 1536]."""
    t, h, w = grid
    blocks = patches.reshape(t, h // MERGE, w // MERGE, MERGE, MERGE, 3, TEMPORAL, PATCH, PATCH)
    return blocks.permute(0, 6, 5, 1, 3, 7, 2, 4, 8).reshape(TEMPORAL * t, 3, PATCH * h, PATCH * w)


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
