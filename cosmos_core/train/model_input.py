"""What a model gets of one sample, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["ModelInput"]


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A prepared sample before normalisation.

    media: the frames of each clip, image or video, in order; a frame is uint8 [3, H, W], RGB. text: pieces of the
    rendered text, and whether each is learned. num_condition_frames: leading latent frames that are given; None where
    there are none. latent_bytes: its size in a latent cache. question: what people asked, where the text has more.
    """

    media: tuple[tuple[torch.Tensor, ...], ...]
    text: tuple[tuple[str, bool], ...]
    num_condition_frames: int | None = None
    latent_bytes: int = 0
    question: str = ""

    @property
    def frames(self) -> tuple[torch.Tensor, ...]:
        """All frames, in order."""
        return tuple(frame for medium in self.media for frame in medium)
