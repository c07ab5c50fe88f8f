"""Published checkpoints in, diffusers and adapters out; tensor names of both sides."""

from cosmos_vfm.checkpoints.names import from_diffusers, to_diffusers

__all__ = ["from_diffusers", "to_diffusers"]
