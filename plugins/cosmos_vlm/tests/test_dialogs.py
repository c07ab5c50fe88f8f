"""What a dialog becomes: tokens, labels, sizes of images and videos; and which dialogs are unreadable."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.data import Chat, Image, Message, UnreadableSample, Video
from cosmos_vlm.chat_processor import IGNORE_INDEX
from cosmos_vlm.vision import fit_video
from tests.tiny_reasoner import family_of, noise, write_reasoner


def user(*parts: Any) -> Message:
    return Message("user", parts)


def assistant(text: str) -> Message:
    return Message("assistant", (text,))


PICTURE = Image(noise(3, 64, 64, seed=7))
VIDEO = Video(noise(3, 4, 64, 64, seed=3), (0.0, 0.5, 1.0, 1.5))
TURNS = Chat(
    "turns",
    (Message("system", ("Be brief.",)), user("One?"), assistant("1"), user("Two?"), assistant("2, of course")),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reasoner(tmp_path_factory.mktemp("reasoner") / "tiny")


def test_labels_cover_what_the_assistant_says_and_its_end(folder: Path) -> None:
    family = family_of(folder)
    dialog = family.prepare(TURNS)
    tokenizer = family.processor.tokenizer
    learned = [int(token) for token in dialog.labels if token != IGNORE_INDEX]
    assert tokenizer.decode(learned) == "1<|im_end|>2, of course<|im_end|>"
    said = (
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", "1"),
        ("user", "Two?"),
        ("assistant", "2, of course"),
    )
    assert tokenizer.decode(dialog.ids) == "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said)


BOUNDARIES = {
    "several turns": (
        user("One?"),
        assistant("1"),
        user("Two?"),
        assistant("2, of course"),
        user("So?"),
        assistant("!"),
    ),
    "empty system": (Message("system", ("",)), user("One?"), assistant("1")),
    "ends with a question": (user("One?"), assistant("1"), user("and")),
    "ends with an empty answer": (user("One?"), assistant("1"), user("Two?"), assistant("")),
    "many pictures": (
        user(PICTURE, "a", PICTURE, PICTURE, "b", *[PICTURE] * 5),
        assistant("two"),
        user("c", PICTURE),
        assistant("three\nlines\nof it"),
    ),
    "clip and picture in turn": (
        user(VIDEO, "?"),
        assistant("4"),
        user(PICTURE),
        assistant("5"),
    ),
    "speaks of roles": (user("say assistant"), assistant("assistant\nuser\nsystem")),
}


@pytest.mark.parametrize("kind", BOUNDARIES)
def test_learned_tokens_lie_between_the_assistants_header_and_its_end(folder: Path, kind: str) -> None:
    """Found here by scanning the tokens for headers, as the cosmos-framework training scripts do.

    See docs/models/reasoner.md, Labels.
    """
    family = family_of(folder)
    dialog, special = family.prepare(Chat(kind, BOUNDARIES[kind])), family.processor.special
    header = family.processor.tokenizer.encode("assistant\n", add_special_tokens=False)
    ids, expected, place = dialog.ids.tolist(), [IGNORE_INDEX] * len(dialog.ids), 0
    while place < len(ids):
        if ids[place] == special["<|im_start|>"] and ids[place + 1 : place + 1 + len(header)] == header:
            place += 1 + len(header)
            end = ids.index(special["<|im_end|>"], place)
            expected[place : end + 1] = ids[place : end + 1]
            place = end
        place += 1
    assert dialog.labels.tolist() == expected
    assert dialog.num_loss_tokens > 0


def test_a_clip_becomes_slices_with_their_times(folder: Path) -> None:
    family = family_of(folder)
    dialog = family.prepare(Chat("video", (user(VIDEO, "Rate it"), assistant("4"))))
    text = family.processor.tokenizer.decode(dialog.ids)
    pads = "<|video_pad|>" * 4
    assert f"<0.2 seconds><|vision_start|>{pads}<|vision_end|><1.2 seconds><|vision_start|>{pads}<|vision_end|>" in text


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|video_pad|>", "<|im_end|>", "<|im_start|>"])
@pytest.mark.parametrize("number", [0, 1])
def test_texts_that_would_pass_for_pictures_or_turns_are_unreadable(folder: Path, token: str, number: int) -> None:
    texts = ["What is it?", "A cat"]
    texts[number] += f" {token} and more"
    with pytest.raises(UnreadableSample, match="holds the token") as found:
        family_of(folder).prepare(Chat("sly", (user(texts[0]), assistant(texts[1]))))
    assert token in found.value.reason


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((Message("user", ("Hi",)),), "the assistant says nothing"),
        ((Message("robot", ("Hi",)), Message("assistant", ("Hello",))), "unknown role 'robot'"),
        ((Message("user", ("Hi \ufdd2",)), Message("assistant", ("Hello",))), "U\\+FDD0 to U\\+FDD3"),
        ((Message("user", ("Hi",)), Message("assistant", ("\ufdd0",))), "U\\+FDD0 to U\\+FDD3"),
    ],
)
def test_dialogs_without_an_assistant_with_another_role_or_with_the_renderers_marks_are_unreadable(
    folder: Path, messages: tuple[Message, ...], reason: str
) -> None:
    with pytest.raises(UnreadableSample, match=reason):
        family_of(folder).prepare(Chat("chat", messages))


@pytest.mark.parametrize("value", [date(2026, 1, 2), b"abc"])
def test_a_tool_with_values_that_are_no_json_is_unreadable(folder: Path, value: Any) -> None:
    tool = {"type": "function", "function": {"name": "look", "since": value}}
    with pytest.raises(UnreadableSample, match="a tool or a call is not JSON"):
        family_of(folder).prepare(Chat("tools", TURNS.messages, (tool,)))


@pytest.mark.parametrize(
    ("shape", "tokens"), [((32, 720, 1280), 11520), ((20, 720, 1280), 8800), ((16, 320, 512), 1280)]
)
def test_video_budgets_are_those_measured(shape: tuple[int, int, int], tokens: int) -> None:
    rows, columns = fit_video(*shape, 4_096, 25_165_824)
    assert shape[0] // 2 * (rows // 32) * (columns // 32) == tokens
