"""The Wan 2.2 VAE (4x16x16, 48 channels) through diffusers' AutoencoderKLWan.

See docs/models/generator.md, Video tokenizer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from cosmos_core.distributed import device_memory
from cosmos_vfm.tokenizer.encode_limit import pixels_at_once
from cosmos_vfm.tokenizer.video import to_pixels
from cosmos_vfm.tokenizer.wan_encoder import WanEncoder
from cosmos_vfm.tokenizer.wan_files import find_vae, read_config, stored_weights, vae_error

__all__ = ["LATENTS_MEAN", "LATENTS_STD", "WAN_CONFIG", "WanVae", "rename_original"]

LATENTS_MEAN = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570,
    -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322,
    0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520,
    0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
]  # fmt: skip
LATENTS_STD = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165,
    0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917,
    0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600,
    0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
]  # fmt: skip
WAN_CONFIG: dict[str, Any] = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 16,
    "latents_mean": LATENTS_MEAN,
    "latents_std": LATENTS_STD,
}

_BLOCK = (
    (r"residual\.0\.gamma", "norm1.gamma"),
    (r"residual\.2\.", "conv1."),
    (r"residual\.3\.gamma", "norm2.gamma"),
    (r"residual\.6\.", "conv2."),
    (r"shortcut\.", "conv_shortcut."),
)
_RULES = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"^(encoder|decoder)\.middle\.0\.", r"\1.mid_block.resnets.0."),
    (r"^(encoder|decoder)\.middle\.1\.", r"\1.mid_block.attentions.0."),
    (r"^(encoder|decoder)\.middle\.2\.", r"\1.mid_block.resnets.1."),
    (r"^(encoder|decoder)\.head\.0\.gamma", r"\1.norm_out.gamma"),
    (r"^(encoder|decoder)\.head\.2\.", r"\1.conv_out."),
    (r"^encoder\.downsamples\.(\d+)\.downsamples\.\d+\.(resample|time_conv)", r"encoder.down_blocks.\1.downsampler.\2"),
    (r"^decoder\.upsamples\.(\d+)\.upsamples\.\d+\.(resample|time_conv)", r"decoder.up_blocks.\1.upsampler.\2"),
    (r"^encoder\.downsamples\.(\d+)\.downsamples\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2."),
    (r"^decoder\.upsamples\.(\d+)\.upsamples\.(\d+)\.", r"decoder.up_blocks.\1.resnets.\2."),
)


def rename_original(name: str) -> str:
    """Key in ``Wan2.2_VAE.pth`` to key in diffusers (docs/models/generator.md, Wan VAE keys)."""
    for pattern, replacement in _RULES:
        name, changed = re.subn(pattern, replacement, name)
        if changed:
            break
    if ".resnets." in name:
        for pattern, replacement in _BLOCK:
            name = re.sub(pattern, replacement, name)
    return name


class WanVae:
    """VideoVAE that wraps AutoencoderKLWan of diffusers. Weights, input and statistics share one dtype."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae.eval().requires_grad_(False)
        self.encoder = WanEncoder(self.vae, pixels_at_once(None))
        dtype = vae.dtype
        self.mean = torch.tensor(vae.config.latents_mean, dtype=dtype).view(1, -1, 1, 1, 1)
        self.inverse_std = 1.0 / torch.tensor(vae.config.latents_std, dtype=dtype).view(1, -1, 1, 1, 1)

    @classmethod
    def load(cls, path: str | None, dtype: torch.dtype) -> WanVae:
        """From the original .pth file, a folder of diffusers, or a folder with ``vae/``. Raises UserError."""
        from diffusers import AutoencoderKLWan

        location = find_vae(path)
        config = read_config(location, WAN_CONFIG) if location.is_dir() else WAN_CONFIG
        with torch.device("meta"):
            vae = AutoencoderKLWan.from_config(config)
        vae.load_state_dict(_renamed(location, vae, dtype), strict=True, assign=True)
        return cls(vae)

    def to(self, device: torch.device) -> WanVae:
        """On `device`, in place. How much is encoded at once follows from its memory."""
        self.vae.to(device)
        self.encoder.limit = pixels_at_once(device_memory(device))
        self.mean, self.inverse_std = self.mean.to(device), self.inverse_std.to(device)
        return self

    def compile(self) -> None:
        """Compile the encoder."""
        self.encoder.compile()

    @torch.no_grad()
    def encode(self, videos: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, 1 + 4n, H, W] -> float32 latents: mean of the posterior, normalised per channel."""
        return ((self.encoder(videos) - self.mean) * self.inverse_std).float()

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """float32 latents -> uint8 videos."""
        return to_pixels(self.vae.decode(latents.to(self.vae.dtype) / self.inverse_std + self.mean).sample)


def _renamed(location: Path, vae: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Stored tensors under the names of diffusers. Raises UserError when they do not match `vae`."""
    rename = str if location.is_dir() else rename_original
    renamed = {rename(name): value for name, value in stored_weights(location).items()}
    shapes = {name: value.shape for name, value in vae.state_dict().items()}
    wrong = [name for name in shapes if name not in renamed or renamed[name].shape != shapes[name]]
    wrong += [name for name in renamed if name not in shapes]
    if wrong:
        message = f"{len(wrong)} tensors are missing, unknown or of another shape, for example {wrong[0]}"
        raise vae_error(str(location), message)
    return {name: value.to(dtype) for name, value in renamed.items()}
