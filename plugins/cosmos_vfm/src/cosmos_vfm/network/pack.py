"""What the network reads of a packed micro-batch, beside the latents themselves."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from cosmos_vfm.network.segments import Segments

__all__ = ["Pack"]


@dataclass(frozen=True, slots=True)
class Pack:
    """Nu text tokens and Ng latent tokens of B samples, each stream in sample order.

    text_ids: int64 [Nu]. text_positions, latent_positions: float32 [3, Nu], [3, Ng]. sample_of_latent: int64 [Ng].
    noisy: bool [Ng], False for tokens of conditioning frames.
    """

    text_ids: torch.Tensor
    text_positions: torch.Tensor
    latent_positions: torch.Tensor
    sample_of_latent: torch.Tensor
    noisy: torch.Tensor
    segments: Segments

    def to(self, device: torch.device) -> Pack:
        """On `device`."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})
