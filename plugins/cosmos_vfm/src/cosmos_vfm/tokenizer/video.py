"""Interface and geometry of all video tokenizers."""

from __future__ import annotations

from typing import Protocol

import torch

__all__ = ["CHANNELS", "SPATIAL", "TEMPORAL", "VideoVAE", "latent_shape", "normalise", "to_pixels"]

TEMPORAL = 4
SPATIAL = 16
CHANNELS = 48


class VideoVAE(Protocol):
    """Video tokenizer: pixels to latents and back.

    The first frame is one latent frame, then 4 frames are one; 16x16 pixels are one latent pixel.
    """

    def to(self, device: torch.device) -> VideoVAE:
        """The same video tokenizer on `device`."""
        ...

    def compile(self) -> None:
        """Compile the encoder, in place."""
        ...

    def encode(self, videos: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, 1 + 4n, H, W] -> float32 [B, 48, 1 + n, H / 16, W / 16], normalised."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse: float32 latents -> uint8 videos."""
        ...


def latent_shape(frames: int, height: int, width: int) -> tuple[int, int, int]:
    """Latent (frames, height, width) of a clip of 1 + 4n frames."""
    return 1 + (frames - 1) // TEMPORAL, height // SPATIAL, width // SPATIAL


def normalise(videos: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 -> float32 -1..1."""
    return videos.float().div_(127.5).sub_(1)


def to_pixels(videos: torch.Tensor) -> torch.Tensor:
    """Float -1..1 -> uint8, clamped and rounded."""
    return ((videos.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
