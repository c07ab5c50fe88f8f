"""Names of tensors in the training framework and in diffusers."""

from cosmos_vfm.checkpoints.names import from_diffusers, to_diffusers

__all__ = ["from_diffusers", "to_diffusers"]
