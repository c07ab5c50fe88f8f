"""Texts that come again and again are tokenised once, as long as few and short ones do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cosmos_core.data import Chat, Picture, Turn
from cosmos_vlm.dialog import Dialog
from tests.tiny_reasoner import family_of, write_reasoner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reasoner(tmp_path_factory.mktemp("backbone"))


def chat(question: str, answer: str = "It is.", size: int = 0) -> Chat:
    """size: of a picture before the question; 0: none."""
    shown = (Picture(torch.zeros(3, size, size, dtype=torch.uint8)),) if size else ()
    return Chat("chat", (Turn("user", (*shown, question)), Turn("assistant", (answer,))))


def test_equal_dialogs_share_their_tokens_and_others_do_not(folder: Path) -> None:
    encoder = family_of(folder).encoder
    first: Dialog = encoder.encode(chat("What is it?", size=64))
    assert encoder.encode(chat("What is it?", size=64)).ids is first.ids
    for other in (chat("What?", size=64), chat("What is it?", "It was.", size=64), chat("What is it?", size=96)):
        assert encoder.encode(other).ids is not first.ids
    moved = Chat("chat", (Turn("user", ("What is ",)), Turn("assistant", ("it?",))))
    whole = Chat("chat", (Turn("user", ("What is it?",)), Turn("assistant", ("it?",))))
    assert encoder.encode(moved).labels.tolist() != encoder.encode(whole).labels.tolist()


@pytest.mark.parametrize(("others", "remembered"), [(255, True), (256, False)])
def test_256_texts_are_remembered_before_all_are_forgotten(folder: Path, others: int, remembered: bool) -> None:
    encoder = family_of(folder).encoder
    first = encoder.encode(chat("first"))
    for number in range(others):
        encoder.encode(chat(f"other {number}"))
    assert (encoder.encode(chat("first")).ids is first.ids) is remembered


def test_a_long_text_is_not_remembered(folder: Path) -> None:
    encoder = family_of(folder).encoder
    length = len(encoder.encode(chat("")).ids)
    for more, remembered in ((2048 - length, True), (2049 - length, False)):
        long = encoder.encode(chat("~" * more))
        assert len(long.ids) == length + more
        assert (encoder.encode(chat("~" * more)).ids is long.ids) is remembered
