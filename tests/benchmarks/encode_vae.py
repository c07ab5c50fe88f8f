"""Encoding of clips beside diffusers: ``python -m tests.benchmarks.encode_vae``.

The Wan 2.2 VAE with random weights, in bfloat16. Latents are compared first; if they differ, nothing is timed. What is
encoded "at once" is one clip, a run's share of the card, or the most that works. ``--profile`` shows the dearest
kernels of a recipe's way, ``--smoke`` runs all of it in small on any machine.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from attrs import frozen
from diffusers import AutoencoderKLWan
from torch.utils.flop_counter import FlopCounterMode

from cosmos_vfm.tokenizer.encode_limit import pixels_at_once
from cosmos_vfm.tokenizer.video import normalise
from cosmos_vfm.tokenizer.wan import WAN_CONFIG
from cosmos_vfm.tokenizer.wan_encoder import LOOK_BACK, WanEncoder
from tests.benchmarks.timing import GIB, alternate, clear, peak_gib, profiled, show

__all__ = ["main"]

BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 0.05}
"""Of the relative difference of latents, by the dtype of the arithmetic: some fifty roundings that add up at random."""
BEFORE, AFTER = "diffusers, all together", "cosmos compiled, default at once"
"""The two ways that the goal compares."""
MOST_PIXELS = 50_000_000
"""At once; of more, activations would have more elements than kernels with 32-bit indices can take."""

Encode = Callable[[torch.Tensor], torch.Tensor]


@frozen
class Shape:
    """clips of one size. repeats: timed calls of each contender."""

    clips: int
    frames: int
    height: int
    width: int
    repeats: int

    @property
    def pixels(self) -> int:
        """Of a clip, as `WanEncoder.limit` counts them."""
        return (self.frames + LOOK_BACK) * self.height * self.width

    def videos(self, device: torch.device, clips: int | None = None) -> torch.Tensor:
        """Smooth random pixels, uint8, the same on every machine."""
        count, generator = clips or self.clips, torch.Generator().manual_seed(0)
        coarse = torch.rand(count, 3, 1 + self.frames // 8, self.height // 16, self.width // 16, generator=generator)
        size = (self.frames, self.height, self.width)
        return (255 * torch.nn.functional.interpolate(coarse.to(device), size, mode="trilinear")).to(torch.uint8)


SHAPES = {
    "256p": Shape(4, 93, 192, 320, 10),
    "480p": Shape(4, 93, 480, 832, 4),
    "720p": Shape(1, 93, 720, 1280, 4),
    "stills": Shape(64, 1, 192, 320, 10),
    "smoke": Shape(2, 9, 32, 48, 2),
}


class Contenders:
    """Ways to encode, by name, over the same weights."""

    def __init__(self, device: torch.device, *, small: bool) -> None:
        torch.manual_seed(0)
        cuda = device.type == "cuda"
        self.default = pixels_at_once(torch.cuda.get_device_properties(device).total_memory / GIB if cuda else None)
        width = {"base_dim": 8, "decoder_base_dim": 8} if small else {}
        with torch.device(device):
            self.theirs = AutoencoderKLWan(**{**WAN_CONFIG, **width}).eval().requires_grad_(False)
        # A decoder is not needed, and a copy of the encoder is: ours changes the order of its weights.
        self.theirs.decoder = torch.nn.Identity()
        self.last = copy.deepcopy(self.theirs)

    def to(self, dtype: torch.dtype) -> None:
        """Both copies."""
        self.theirs.to(dtype)
        self.last.to(dtype)

    def diffusers(self, vae: Any) -> Encode:
        """Its own encoding of all clips in one call."""
        return lambda videos: vae.encode(normalise(videos).to(vae.dtype)).latent_dist.mode()

    def cosmos(self, limit: int, *, compiled: bool) -> Encode:
        """Ours; limit: pixels at once."""
        encoder = WanEncoder(self.last, limit)
        if compiled:
            encoder.compile()
        return encoder

    def ways(self, shape: Shape, *, compiled: bool) -> dict[str, Encode]:
        """All that is timed."""
        together = self.diffusers(self.theirs)
        most = min(shape.clips * shape.pixels, MOST_PIXELS)
        limits = {"one": min(shape.pixels, most), "default": self.default, "most": most}
        if shape.clips == 1:
            del limits["one"]
        ways: dict[str, Encode] = {
            "diffusers, one by one": lambda videos: torch.cat([together(clip[None]) for clip in videos]),
            BEFORE: together,
            "diffusers, all together, channels last": self.diffusers(self.last),
            **{f"cosmos eager, {name} at once": self.cosmos(limit, compiled=False) for name, limit in limits.items()},
        }
        if compiled:
            fused = {name: self.cosmos(limit, compiled=True) for name, limit in limits.items()}
            ways |= {f"cosmos compiled, {name} at once": encode for name, encode in fused.items()}
            ways["cosmos compiled, default at once, cuDNN searched"] = _searching(fused["default"])
        return ways


def _searching(encode: Encode) -> Encode:
    """With cuDNN trying its algorithms on every new size."""

    def call(videos: torch.Tensor) -> torch.Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            return encode(videos)

    return call


def _parity(contenders: Contenders, device: torch.device, *, compiled: bool) -> None:
    """Raises SystemExit when latents of two small clips differ too much from those of diffusers in float32."""
    contenders.to(torch.float32)
    shape, rows = Shape(2, 21, 64, 96, 1), []
    videos = shape.videos(device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        expected = contenders.diffusers(contenders.theirs)(videos)
        for name, limit in (("whole", 2 * shape.pixels), ("in parts", shape.pixels // 2)):
            latents = contenders.cosmos(limit, compiled=compiled)(videos)
            rows.append({"clips": name, "dtype": "float32", **_difference(latents, expected)})
    show("parity of latents", rows)
    torch.compiler.reset()  # A run has one dtype; graphs of both would be too many.
    contenders.to(torch.bfloat16)


def _difference(latents: torch.Tensor, expected: torch.Tensor) -> dict[str, float]:
    """Raises SystemExit when it is over the bound."""
    difference = (latents - expected).float()
    relative = float(difference.norm() / expected.float().norm())
    if not relative <= BOUNDS[expected.dtype]:
        raise SystemExit(f"latents differ by {relative:.2e} of their norm; nothing was timed")
    return {"largest difference": float(difference.abs().max()), "relative": relative}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--shapes", nargs="+", default=["256p", "720p", "stills"], choices=SHAPES)
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"device: {card}; torch {torch.__version__}; cuDNN {torch.backends.cudnn.version()}", flush=True)
    with torch.no_grad():
        contenders = Contenders(device, small=options.smoke)
        _parity(contenders, device, compiled=not options.eager)
        for name in ["smoke"] if options.smoke else options.shapes:
            _compare(contenders, name, device, card, options)


def _compare(contenders: Contenders, name: str, device: torch.device, card: str, options: argparse.Namespace) -> None:
    shape, ways = SHAPES[name], contenders.ways(SHAPES[name], compiled=not options.eager)
    videos, rows = shape.videos(device), {}
    with FlopCounterMode(display=False) as counter:
        expected = ways[BEFORE](videos)
    tflop = counter.get_total_flops() / 1e12
    for way, encode in ways.items():
        latents = encode(videos)  # This call compiles, too.
        clear()
        held = torch.cuda.memory_allocated() / GIB if device.type == "cuda" else 0.0
        rows[way] = {**_difference(latents, expected), "peak GiB": peak_gib(lambda: encode(videos)) - held}  # noqa: B023
    times = alternate({way: lambda encode=encode: encode(videos) for way, encode in ways.items()}, shape.repeats)
    table = [
        {
            "contender": way,
            "ms a clip": times[way]["ms"] / shape.clips,
            "p90": times[way]["p90"] / shape.clips,
            "TFLOP/s": 1e3 * tflop / times[way]["ms"],
            "times diffusers together": times[BEFORE]["ms"] / times[way]["ms"],
            **figures,
            "device": card,
        }
        for way, figures in rows.items()
    ]
    size = f"{shape.clips} clips of {shape.frames} frames at {shape.width}x{shape.height}"
    show(f"VAE encode, {name}: {size}, {tflop / shape.clips:.1f} TFLOP a clip", table)
    if AFTER in times:
        print(f"{name}: {AFTER} is {times[BEFORE]['ms'] / times[AFTER]['ms']:.2f} times {BEFORE}", flush=True)
    if options.profile:
        way = AFTER if AFTER in ways else BEFORE
        profiled(lambda: ways[way](videos), f"{way}, {name}")
    clear()


if __name__ == "__main__":
    main()
