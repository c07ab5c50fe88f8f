"""What `cosmos data show` writes of a dialog: the tower's frames, and which text is learned."""

from __future__ import annotations

from pathlib import Path

import torch

from cosmos_core.data import Chat, Message, Video
from cosmos_vlm.vision import frames_of, patches_of
from tests.tiny_reasoner import family_of, write_reasoner


def test_patches_become_the_frames_that_they_were_made_of() -> None:
    frames = torch.randint(0, 256, (4, 3, 64, 96), dtype=torch.uint8)
    assert torch.equal(frames_of(*patches_of(frames, (64, 96))), frames)


def test_the_assistants_text_is_learned_and_an_odd_frame_is_repeated(tmp_path: Path) -> None:
    family = family_of(write_reasoner(tmp_path))
    video = Video(torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8), (0.0, 0.5, 1.0))
    messages = (Message("user", (video, "what")), Message("assistant", ("a ball",)))
    shown = family.model_input(family.prepare(Chat("a", messages)))
    assert shown is not None
    assert len(shown.frames) == 4
    assert torch.equal(shown.frames[2], shown.frames[3])
    learned = "".join(text for text, is_learned in shown.text if is_learned)
    assert learned == "a ball<|im_end|>"
