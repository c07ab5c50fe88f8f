"""Prepared samples and micro-batches of the generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import torch
from attrs import frozen

from cosmos_core.data import Item
from cosmos_core.distributed import transferred
from cosmos_vfm.network import Pack
from cosmos_vfm.packing import Layout, build_pack

__all__ = ["Prepared", "VideoBatch", "collate"]


@frozen
class Prepared:
    """A clip and its tokens. video: uint8 pixels [3, T, H, W], or float32 latents [48, T, H, W]."""

    key: str
    video: torch.Tensor
    layout: Layout


@dataclass(frozen=True, slots=True)
class VideoBatch:
    """A pack and its clips. videos: runs of clips of one size, uint8 [b, 3, T, H, W] or latents float32
    [b, 48, T, H, W], in sample order.

    positions: global sample positions, which key every random draw. clean: int64 [B], conditioned latent frames.
    """

    videos: tuple[torch.Tensor, ...]
    positions: tuple[int, ...]
    clean: torch.Tensor
    pack: Pack

    def to(self, device: torch.device) -> VideoBatch:
        """On `device`."""
        return replace(
            self,
            videos=tuple(transferred(run, device) for run in self.videos),
            clean=transferred(self.clean, device),
            pack=self.pack.to(device),
        )

    @property
    def tokens(self) -> int:
        """Tokens of both towers."""
        return self.pack.text_ids.numel() + self.pack.sample_of_latent.numel()


def collate(items: list[Item]) -> VideoBatch:
    """Pack prepared samples in the given order."""
    samples: list[Prepared] = [item.value for item in items]
    runs = [list(run) for _, run in groupby(samples, key=lambda sample: sample.video.shape)]
    return VideoBatch(
        videos=tuple(torch.stack([sample.video for sample in run]) for run in runs),
        positions=tuple(item.position for item in items),
        clean=torch.tensor([sample.layout.clean for sample in samples]),
        pack=build_pack([sample.layout for sample in samples]),
    )
