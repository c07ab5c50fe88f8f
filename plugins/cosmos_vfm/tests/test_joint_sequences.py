"""Text and latents of a pack together: where each clip lies, on the device that the pack is on."""

from __future__ import annotations

import torch

from cosmos_vfm.network.sequences import JointSequences


def test_text_and_latents_of_a_clip_are_one_sequence_on_the_device_of_its_latents() -> None:
    """A kernel that is given addresses alone would read those of another device."""
    sequences = JointSequences.of((3, 1), (2, 4))
    assert sequences.joined.lengths == (5, 5)
    text, latents = torch.tensor([1, 1, 1, 2]), torch.tensor([10, 10, 20, 20, 20, 20])
    assert sequences.join(text, latents).tolist() == [1, 1, 1, 10, 10, 2, 20, 20, 20, 20]
    assert sequences.to(torch.device("meta")).joined.cu_seqlens.device.type == "meta"
