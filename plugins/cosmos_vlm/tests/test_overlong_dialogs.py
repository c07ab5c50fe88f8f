"""Dialogs longer than a pack: smaller media, or a shorter last answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.data import Chat, Image, Message, UnreadableSample, Video
from cosmos_vlm.chat_processor import IGNORE_INDEX
from tests.tiny_reasoner import family_of, pixels_of, write_reasoner


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)


SMALL, LARGE = Image(noise(3, 64, 64)), Image(noise(3, 640, 320))
CLIP = Video(noise(3, 5, 256, 256), (0.0, 0.5, 1.0, 1.5, 2.0))


def chat_of(*content: str | Image | Video, answer: str = "It is a long answer.") -> Chat:
    return Chat("one", (Message("user", content), Message("assistant", (answer,))))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = write_reasoner(tmp_path_factory.mktemp("reasoner") / "tiny")
    return family_of(folder)


@pytest.mark.parametrize("content", [(LARGE, "What?", SMALL), (CLIP, "What?"), (CLIP, LARGE)])
def test_the_largest_media_become_smaller_until_the_dialog_fits(family: Any, content: tuple[Any, ...]) -> None:
    chat = chat_of(*content)
    whole = family.prepare(chat)
    texts = len(whole.ids) - len(whole.visual_token_indices)
    most = texts + len(whole.visual_token_indices) // 2
    resized = family.shorten(chat, whole, "resize", most)
    assert most * 0.7 < len(resized.ids) <= most
    assert len(resized.ids) - len(resized.visual_token_indices) == texts
    assert 4 * len(resized.visual_token_indices) == len(pixels_of(resized))
    if content[-1] is SMALL:
        assert resized.grids[1] == whole.grids[1]
    assert (resized.labels != IGNORE_INDEX).sum() == (whole.labels != IGNORE_INDEX).sum()


def test_texts_that_fill_the_pack_cannot_be_resized(family: Any) -> None:
    chat = chat_of(LARGE, "What?" * 50)
    with pytest.raises(UnreadableSample, match="its texts leave no room"):
        family.shorten(chat, family.prepare(chat), "resize", 200)


def test_the_end_of_the_last_answer_is_cut(family: Any) -> None:
    chat = chat_of(SMALL, "What?")
    whole = family.prepare(chat)
    most = len(whole.ids) - 8
    cut = family.shorten(chat, whole, "truncate_answer", most)
    assert torch.equal(cut.ids, whole.ids[:most])
    assert torch.equal(cut.labels, whole.labels[:most])
    assert torch.equal(cut.positions, whole.positions[:, :most])
    assert family.processor.special["<|im_end|>"] not in cut.labels
    assert family.processor.tokenizer.decode(cut.labels[cut.labels != IGNORE_INDEX]) == "It is a long a"


@pytest.mark.parametrize(
    ("content", "most", "reason"),
    [((SMALL, "What?"), 30, "its last answer lies beyond the cut"), ((LARGE, "What?"), 30, "images or videos")],
)
def test_a_question_is_never_cut(family: Any, content: tuple[Any, ...], most: int, reason: str) -> None:
    chat = chat_of(*content)
    with pytest.raises(UnreadableSample, match=reason):
        family.shorten(chat, family.prepare(chat), "truncate_answer", most)
