"""Prepared samples and micro-batches of the generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import torch
from attrs import evolve, frozen

from cosmos_core.data import Item
from cosmos_core.distributed import to_device
from cosmos_vfm.network import PackedInputs
from cosmos_vfm.packing import SequenceSpec, pack_inputs

__all__ = ["Prepared", "VideoBatch", "collate"]


@frozen
class Prepared:
    """A clip and the description of its tokens. video: uint8 pixels [3, T, H, W] or float32 latents [48, T, H, W].

    identity: under which the cache keeps the latents once they are encoded; "" if it does not.
    """

    key: str
    video: torch.Tensor
    spec: SequenceSpec
    identity: str = ""


@dataclass(frozen=True, slots=True)
class VideoBatch:
    """Packed clips and the network inputs that go with them.

    videos: same-shape groups of clips in sample order, uint8 [b, 3, T, H, W] or latents float32 [b, 48, T, H, W].
    positions: global sample positions; they key every random draw. num_condition_frames: int64 [B], latent frames.
    specs: what `inputs` were packed from. identities: of the clips that the cache is to keep, "" for others.
    """

    videos: tuple[torch.Tensor, ...]
    positions: tuple[int, ...]
    num_condition_frames: torch.Tensor
    inputs: PackedInputs
    specs: tuple[SequenceSpec, ...]
    identities: tuple[str, ...] = ()

    def to(self, device: torch.device) -> VideoBatch:
        """On `device`."""
        return replace(
            self,
            videos=tuple(to_device(group, device) for group in self.videos),
            num_condition_frames=to_device(self.num_condition_frames, device),
            inputs=self.inputs.to(device),
        )

    def with_swapped_captions(self) -> tuple[PackedInputs, list[bool]]:
        """Inputs whose captions moved on to other clips of the batch, and which clips got another text.

        They move by as many places as gives most clips another one.
        """
        texts = [spec.text_ids for spec in self.specs]

        def changed(places: int) -> list[bool]:
            return [text != moved for text, moved in zip(texts, texts[places:] + texts[:places], strict=True)]

        places = max(range(len(texts)), key=lambda count: sum(changed(count)))
        moved = zip(self.specs, texts[places:] + texts[:places], strict=True)
        swapped = pack_inputs([evolve(spec, text_ids=text) for spec, text in moved])
        return swapped.to(self.inputs.text_ids.device), changed(places)

    @property
    def tokens(self) -> int:
        """Tokens of both towers."""
        return self.inputs.text_ids.numel() + self.inputs.sample_of_latent.numel()


def collate(items: list[Item]) -> VideoBatch:
    """Pack prepared samples in the given order."""
    samples: list[Prepared] = [item.value for item in items]
    specs = tuple(sample.spec for sample in samples)
    groups = [list(group) for _, group in groupby(samples, key=lambda sample: sample.video.shape)]
    return VideoBatch(
        videos=tuple(torch.stack([sample.video for sample in group]) for group in groups),
        positions=tuple(item.position for item in items),
        num_condition_frames=torch.tensor([sample.spec.num_condition_frames for sample in samples]),
        inputs=pack_inputs(specs),
        specs=specs,
        identities=tuple(sample.identity for sample in samples),
    )
