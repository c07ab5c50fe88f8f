"""Network inputs of a packed micro-batch, except the latents."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from cosmos_core.distributed import to_device
from cosmos_vfm.network.sequences import JointSequences

__all__ = ["PackedInputs"]


@dataclass(frozen=True, slots=True)
class PackedInputs:
    """Nu text tokens and Ng latent tokens of B samples, both in sample order.

    text_ids: int64 [Nu]. text_positions, latent_positions: float32 [3, Nu], [3, Ng]. sample_of_latent: int64 [Ng].
    noise_mask: bool [Ng], False for tokens of condition frames.
    """

    text_ids: torch.Tensor
    text_positions: torch.Tensor
    latent_positions: torch.Tensor
    sample_of_latent: torch.Tensor
    noise_mask: torch.Tensor
    sequences: JointSequences

    def to(self, device: torch.device) -> PackedInputs:
        """On `device`."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sequences"}
        moved = {name: to_device(value, device) for name, value in tensors.items()}
        return replace(self, sequences=self.sequences.to(device), **moved)
