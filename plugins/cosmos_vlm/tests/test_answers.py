"""What the reasoner says when it is asked, against transformers' own generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from cosmos_core.data import Chat, Image, Item, Message, Video
from cosmos_vlm.batch import collate
from tests.tiny_reasoner import family_of, media_of, network_of, write_reasoner


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(sum(shape))).to(torch.uint8)


def chat(name: str, *said: Any) -> Chat:
    """User and assistant by turns."""
    roles = ("user", "assistant") * len(said)
    parts = (one if isinstance(one, tuple) else (one,) for one in said)
    return Chat(name, tuple(Message(role, each) for role, each in zip(roles, parts, strict=False)))


PICTURE, WIDE = Image(pixels(3, 64, 64)), Image(pixels(3, 64, 96))
CLIP = Video(pixels(3, 4, 64, 64), (0.0, 0.5, 1.0, 1.5))
CHATS = {
    "text": chat("text", "Hello there", "Hi."),
    "several turns": chat("several turns", "One?", "1", "Two?", "2, of course"),
    "pictures": chat("pictures", (PICTURE, "and", WIDE, "?"), "Both noise"),
    "clip": chat("clip", (CLIP, "Rate it"), "4"),
    "clip and picture": chat("clip and picture", (WIDE, "or", CLIP, PICTURE), "yes"),
    "a picture is shown after the last answer": chat("later picture", (WIDE, "What?"), "Noise", ("And", PICTURE)),
    "only a picture after the last answer": chat("only later", "What?", "Noise", (PICTURE, "and this?")),
    "a clip is shown after the last answer": chat("later clip", (PICTURE, CLIP), "Noise", (CLIP, "and", PICTURE)),
    "a picture in the answer": chat("own picture", (PICTURE, "draw"), ("like", WIDE)),
    "the assistant begins": Chat("begins", (Message("assistant", ("Welcome",)),)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reasoner(tmp_path_factory.mktemp("reasoner") / "tiny")


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Any:
    return Qwen3VLForConditionalGeneration.from_pretrained(folder).eval()


@pytest.mark.parametrize("kinds", [list(CHATS), *([kind] for kind in CHATS)], ids=lambda kinds: ", ".join(kinds)[:40])
def test_answers_are_what_transformers_generates(folder: Path, oracle: Any, kinds: list[str]) -> None:
    """All dialogs in one pack, and each alone; what was shown after the question is not seen."""
    family = family_of(folder, max_new_tokens=4)
    tokenizer = family.processor.tokenizer
    dialogs = [family.prepare(CHATS[kind]) for kind in kinds]
    answers = family.answers(network_of(family).eval(), collate([Item(*pair) for pair in enumerate(dialogs)]))
    assert [answer.key for answer in answers] == [CHATS[kind].key for kind in kinds]
    for answer, dialog in zip(answers, dialogs, strict=True):
        header = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False, return_tensors="pt")[0]
        prompt = torch.cat([dialog.ids[: dialog.prompt_len], header])
        shown = dialog.grids[: dialog.num_prompt_media]
        media = media_of(oracle.config, prompt, dialog, shown)
        said = oracle.generate(prompt[None], max_new_tokens=4, do_sample=False, **media)[0, len(prompt) :]
        assert answer.prediction == tokenizer.decode(said, skip_special_tokens=True), answer.key


def test_what_is_wanted_is_the_assistants_last_turn(folder: Path) -> None:
    family = family_of(folder, max_new_tokens=1)
    batch = collate([Item(index, family.prepare(one)) for index, one in enumerate(CHATS.values())])
    wanted = [answer.reference for answer in family.answers(network_of(family).eval(), batch)]
    assert wanted == [
        *("Hi.", "2, of course", "Both noise", "4", "yes"),
        *("Noise", "Noise", "Noise", "like", "Welcome"),
    ]
