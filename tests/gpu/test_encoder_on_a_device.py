"""The compiled encoder on a device: latents of diffusers, and the host never waits."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKLWan

from cosmos_vfm.tokenizer.video import normalise
from cosmos_vfm.tokenizer.wan import WAN_CONFIG
from cosmos_vfm.tokenizer.wan_encoder import WanEncoder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here, which tests/gpu needs"),
]


@pytest.mark.parametrize("limit", [10**7, 64 * 96 * 11])
def test_clips_get_the_latents_of_diffusers_whole_and_in_parts(limit: int) -> None:
    """Bound: 0.05 of the norm, some fifty roundings of bfloat16 that add up at random."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        vae = AutoencoderKLWan(**{**WAN_CONFIG, "base_dim": 32, "decoder_base_dim": 8}).bfloat16().eval()
        videos = torch.randint(0, 256, (3, 3, 21, 64, 96), dtype=torch.uint8)
    encoder = WanEncoder(copy.deepcopy(vae), limit)
    encoder.compile()
    with torch.no_grad():
        expected = vae.encode(normalise(videos).bfloat16()).latent_dist.mode().float()
        encoder(videos)
        torch.cuda.set_sync_debug_mode("error")
        try:
            latents = encoder(videos).float()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert float((latents - expected).norm()) <= 0.05 * float(expected.norm())
