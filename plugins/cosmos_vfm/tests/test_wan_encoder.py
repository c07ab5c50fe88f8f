"""The encoder gives diffusers' latents for every division of clips into batches and parts, compiled or not."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan

from cosmos_vfm.tokenizer.video import normalise
from cosmos_vfm.tokenizer.wan import WAN_CONFIG
from cosmos_vfm.tokenizer.wan_encoder import WanEncoder, batches_and_parts

FRAME = 32 * 48
"""Pixels."""


@torch.no_grad()
def toy_vae(dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    vae = AutoencoderKLWan.from_config({**WAN_CONFIG, "base_dim": 8, "decoder_base_dim": 8})
    for name, parameter in vae.named_parameters():
        if name.endswith("gamma"):
            parameter.normal_(1, 0.2)
    return vae.to(dtype).eval().requires_grad_(False)


def clips(count: int, frames: int, height: int = 32, width: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count + frames)
    return torch.randint(0, 256, (count, 3, frames, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("clips", "frames", "limit", "batches", "parts"),
    [
        (21, 93, 4 * 95, 6, [93]),
        (21, 93, 2 * 95 - 1, 21, [93]),
        (3, 93, 94, 3, [45, 48]),
        (3, 93, 27, 3, [21, 24, 24, 24]),
        (2, 93, 0, 2, [5, *[4] * 22]),
        (200, 1, 300, 2, [1]),
        (2, 1, 1, 2, [1]),
    ],
)
def test_whole_clips_share_the_limit_and_a_longer_one_is_divided_in_time(
    clips: int, frames: int, limit: int, batches: int, parts: list[int]
) -> None:
    """limit: in frames. Two frames before a part count, so that no part is larger than whole clips would be."""
    divided, slices = batches_and_parts(clips, frames, FRAME, limit * FRAME)
    assert divided == batches
    assert [part.stop - part.start for part in slices] == parts
    assert [part.start for part in slices[1:]] == [part.stop for part in slices[:-1]]
    assert slices[-1].stop == frames


def test_latents_are_those_of_diffusers_in_any_parts() -> None:
    """Bound: 3e-6, roundings of float32."""
    vae = toy_vae()
    for video, limits in ((clips(3, 17), (0, 11, 19, 1000)), (clips(2, 1), (0, 1000)), (clips(1, 5), (5,))):
        expected = vae.encode(normalise(video)).latent_dist.mode()
        for limit in limits:
            assert float((WanEncoder(vae, limit * FRAME)(video) - expected).abs().max()) <= 3e-6, limit


def test_in_bfloat16_latents_are_as_near_to_float32_as_those_of_diffusers() -> None:
    vae, video = toy_vae(torch.bfloat16), clips(2, 17)
    rounded = vae.encode(normalise(video).bfloat16()).latent_dist.mode()
    latents = WanEncoder(vae, 11 * FRAME)(video)
    exact = WanEncoder(vae.float(), 11 * FRAME)(video)
    assert latents.dtype == torch.bfloat16
    assert float((latents - exact).norm()) <= 1.1 * float((rounded - exact).norm())
    assert float((latents - exact).norm()) <= 0.02 * float(exact.norm())


def test_more_frames_or_clips_do_not_change_earlier_latents() -> None:
    encoder, video = WanEncoder(toy_vae(), 11 * FRAME), clips(2, 17)
    whole = encoder(video)
    for frames in (1, 13):
        part = encoder(video[:1, :, :frames])
        assert float((part - whole[:1, :, : 1 + frames // 4]).abs().max()) <= 3e-6


def test_compiled_parts_serve_every_size_without_compiling_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced but not lowered, which would take minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    vae = toy_vae()
    encoder = WanEncoder(vae, 23 * FRAME)
    encoder.compile()
    encoder(clips(1, 5))
    with torch.compiler.set_stance("fail_on_recompile"):
        for video in (clips(1, 25), clips(1, 1), clips(2, 13, 48, 32)):
            expected = vae.encode(normalise(video)).latent_dist.mode()
            assert float((encoder(video) - expected).abs().max()) <= 3e-6
