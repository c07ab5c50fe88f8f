"""Texts that come again and again are tokenised once, as long as few and short ones do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cosmos_core.data import Chat, Image, Message
from cosmos_vlm.chat_processor import TokenizedConversation
from tests.tiny_reasoner import family_of, write_reasoner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reasoner(tmp_path_factory.mktemp("backbone"))


def chat(question: str, answer: str = "It is.", size: int = 0) -> Chat:
    """size: of a picture before the question; 0: none."""
    shown = (Image(torch.zeros(3, size, size, dtype=torch.uint8)),) if size else ()
    return Chat("chat", (Message("user", (*shown, question)), Message("assistant", (answer,))))


def test_equal_dialogs_share_their_tokens_and_others_do_not(folder: Path) -> None:
    processor = family_of(folder).processor
    first: TokenizedConversation = processor.encode(chat("What is it?", size=64))
    assert processor.encode(chat("What is it?", size=64)).ids is first.ids
    for other in (chat("What?", size=64), chat("What is it?", "It was.", size=64), chat("What is it?", size=96)):
        assert processor.encode(other).ids is not first.ids
    moved = Chat("chat", (Message("user", ("What is ",)), Message("assistant", ("it?",))))
    whole = Chat("chat", (Message("user", ("What is it?",)), Message("assistant", ("it?",))))
    assert processor.encode(moved).labels.tolist() != processor.encode(whole).labels.tolist()


@pytest.mark.parametrize(("others", "remembered"), [(255, True), (256, False)])
def test_256_texts_are_remembered_before_all_are_forgotten(folder: Path, others: int, remembered: bool) -> None:
    processor = family_of(folder).processor
    first = processor.encode(chat("first"))
    for number in range(others):
        processor.encode(chat(f"other {number}"))
    assert (processor.encode(chat("first")).ids is first.ids) is remembered


def test_a_long_text_is_not_remembered(folder: Path) -> None:
    processor = family_of(folder).processor
    length = len(processor.encode(chat("")).ids)
    for more, remembered in ((2048 - length, True), (2049 - length, False)):
        long = processor.encode(chat("~" * more))
        assert len(long.ids) == length + more
        assert (processor.encode(chat("~" * more)).ids is long.ids) is remembered
