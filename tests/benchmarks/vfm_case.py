"""The batch that both sides of the generator's step benchmark train on: lengths, ids, latents, noise, sigmas."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from attrs import frozen

from cosmos_core.data import Item
from cosmos_core.distributed import CounterRng
from cosmos_core.train import Backward
from cosmos_vfm.batch import Prepared
from cosmos_vfm.config import Flow
from cosmos_vfm.flops import training_flops
from cosmos_vfm.flow.sigmas import draw_sigma, shift_for
from cosmos_vfm.packing import SequenceSpec
from cosmos_vfm.sizes import NetworkConfig
from cosmos_vfm.tokenizer.video import SPATIAL

__all__ = ["CASES", "Case", "NoisyClip", "with_noise"]

SEED = 42


@frozen
class NoisyClip:
    """A clip of one step. latents, noise: float32 [48, T, H, W] on the device."""

    spec: SequenceSpec
    latents: torch.Tensor
    noise: torch.Tensor
    sigma: float


@frozen
class Case:
    """`clips` equal samples with `text` tokens and latents of `shape` (frames, height, width)."""

    name: str
    clips: int
    text: int
    shape: tuple[int, int, int]

    @property
    def vision(self) -> int:
        """Latent tokens of a clip."""
        return self.spec(0, 1).latent_tokens

    def spec(self, index: int, vocab: int) -> SequenceSpec:
        """Description of clip `index`, with random token ids that depend on `index` only."""
        ids = torch.randint(0, vocab, (self.text,), generator=torch.Generator().manual_seed(index))
        return SequenceSpec(tuple(ids.tolist()), self.shape, 24.0, 0)

    def items(self, step: int, vocab: int) -> list[Item]:
        """Items of the loader at `step`; `video` holds latents."""
        items = []
        for index in range(self.clips):
            latents = torch.randn(48, *self.shape, generator=torch.Generator().manual_seed(1000 + index))
            prepared = Prepared(f"clip {index}", latents, self.spec(index, vocab))
            items.append(Item(step * self.clips + index, prepared))
        return items

    def noisy_clips(self, step: int, vocab: int, device: torch.device) -> list[NoisyClip]:
        """The same clips with the noise that training draws for them."""
        return with_noise(self.items(step, vocab), device)

    def tflop(self, network: NetworkConfig) -> float:
        """Model TFLOP of a step: forward for frozen weights, forward and backward for trained ones.

        Recomputation does not count; causal attention counts half.
        """
        text, latents = [self.text] * self.clips, [self.vision] * self.clips
        return training_flops(network, text, latents, (Backward.NONE, Backward.WEIGHTS)) / 1e12


def with_noise(items: Iterable[Item], device: torch.device) -> list[NoisyClip]:
    """Clips of the loader with the sigma and noise that training draws for them."""
    rng, clips = CounterRng(SEED), []
    for item in items:
        latents, generator = item.value.video, rng.generator("noise", item.position, device=device)
        noise = torch.randn(latents.shape, device=device, generator=generator)
        shift = shift_for(Flow().shift, SPATIAL * latents.shape[-1], SPATIAL * latents.shape[-2])
        sigma = draw_sigma("waver", shift, rng.generator("sigma", item.position))
        clips.append(NoisyClip(item.value.spec, latents.to(device), noise, sigma))
    return clips


CASES = {
    "256p": Case("256p", clips=17, text=1210, shape=(24, 12, 20)),
    "720p": Case("720p", clips=4, text=704, shape=(12, 44, 80)),
    "smoke": Case("smoke", clips=3, text=20, shape=(3, 4, 6)),
}
