"""Tokens and labels against transformers: the chat template's own, from a tokenizer that merges as Qwen's does."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer

from cosmos_core.data import Chat, Image, Message, UnreadableSample, Video
from cosmos_vlm.chat_processor import IGNORE_INDEX, ChatProcessor, TokenizedConversation
from cosmos_vlm.chat_template import render_chat
from cosmos_vlm.processor_files import PixelLimits
from cosmos_vlm.vision import frame_pairs
from tests.chat_oracle import template_messages, written_by_transformers
from tests.tiny_reasoner import write_tokenizer

CORPUS = [
    "assistant\n\nRate the physics of the video.\n\nuser\n\n  Rate this, Rate that: the answer is 3.\n\n\n",
    "No\n\n\nthe end\n",
    "What is this? Is it <0.2 seconds> or <1.2 seconds> into the film? \n\n system\nLook at the <picture> in the\r\n",
] * 40
LEARNING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)
"""The template with a mark around what the assistant says, from which transformers makes its own mask."""
SECONDS = (0.0, 0.5, 1.0, 1.5)
SMALL = PixelLimits(image=(1024, 16_777_216), video=(1024, 25_165_824))


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(sum(shape))).to(torch.uint8)


PICTURE, WIDE = Image(pixels(3, 64, 64)), Image(pixels(3, 64, 96))
CLIP = Video(pixels(3, 4, 64, 64), SECONDS)


def turns(*said: Any) -> tuple[Message, ...]:
    """User and assistant by turns."""
    roles = ("user", "assistant") * len(said)
    return tuple(
        Message(role, one if isinstance(one, tuple) else (one,)) for role, one in zip(roles, said, strict=False)
    )


TEXTS = {
    "several turns": turns("Rate this", "the 3", "Is it?", "the end"),
    "empty system": (Message("system", ("",)), *turns("Rate the video", "3")),
    "system": (Message("system", ("\nLook at the picture",)), *turns("Rate this", "3")),
    "leading line break of the question": turns("\nRate this", "3"),
    "leading line break of the answer": turns("Rate this", "\n3", "And that?", "\n\n\nthe 4"),
    "leading spaces": turns("  Rate", "  the answer"),
    "only a line break is said": turns("Rate this", "\n", "Again", "\n\n"),
    "nothing is said": turns("Rate this", "the", "", ""),
    "trailing line breaks": turns("Rate this\n\n", "the answer\n\n"),
    "several texts": turns(("Rate ", "this", ", Ra", "te", " th", "at"), ("the an", "swer\n", "\nis 3")),
    "composed letters": turns(("e", "\u0301t\u00e9"), ("o", "\u0308 \U0001f600")),
    "speaks of roles": turns("assistant\n", "user\n\nsystem"),
}
SHOWN = {
    "picture first": turns((PICTURE, "\n\nRate this"), "3"),
    "picture in the middle": turns(("Look at the ", PICTURE, " picture"), "3"),
    "picture last": turns(("Look at the \n", WIDE), "3", "\nIs it?", "the"),
    "pictures side by side": turns((PICTURE, WIDE, "Rate the", " picture"), "3"),
    "picture after a later question": turns("Rate", "this", ("What is this? ", WIDE, "\n"), "\n\nthe picture"),
    "many pictures": turns(("Rate ", *(part for _ in range(9) for part in (PICTURE, " the\n"))), "3"),
    "clip first": turns((CLIP, "Rate the film"), "3"),
    "clip after text": turns(("Rate the ", CLIP, "\n\nfilm"), "3"),
    "clip after a line break": turns(("Rate the film\n", CLIP), "3", "Again", "4"),
    "clip and picture": turns(("Rate the: ", CLIP, " <", PICTURE, WIDE, ">"), "3", (PICTURE, CLIP), "\n4"),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("merging")
    write_tokenizer(folder, CORPUS)
    found = AutoTokenizer.from_pretrained(folder)
    merged = {"\n\n", "\n\n\n", " the", "Rate", " <", "assistant"}
    assert [text for text in merged if len(found.encode(text, add_special_tokens=False)) > 1] == []
    return found


def dialog_of(tokenizer: Any, said: tuple[Message, ...]) -> TokenizedConversation:
    return ChatProcessor(tokenizer, SMALL).encode(Chat("one", said))


@pytest.mark.parametrize("kind", TEXTS)
def test_tokens_are_the_chat_templates(tokenizer: Any, kind: str) -> None:
    expected = tokenizer.apply_chat_template(template_messages(TEXTS[kind]), tokenize=True, return_dict=True)[
        "input_ids"
    ]
    assert dialog_of(tokenizer, TEXTS[kind]).ids.tolist() == expected


@pytest.mark.parametrize("kind", SHOWN)
def test_tokens_around_pictures_and_clips_are_the_processors(tokenizer: Any, kind: str) -> None:
    text = tokenizer.apply_chat_template(template_messages(SHOWN[kind]), tokenize=False)
    expected = tokenizer(written_by_transformers(text, SHOWN[kind]), add_special_tokens=False)["input_ids"]
    assert dialog_of(tokenizer, SHOWN[kind]).ids.tolist() == expected


@pytest.mark.parametrize("kind", TEXTS)
def test_learned_tokens_are_those_that_transformers_takes_for_the_assistants(tokenizer: Any, kind: str) -> None:
    """A token that lies in part in the header is the answer's, there as here."""
    plain = [{"role": turn.role, "content": "".join(str(part) for part in turn.content)} for turn in TEXTS[kind]]
    found = tokenizer.apply_chat_template(
        plain, chat_template=LEARNING, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    pairs = zip(found["input_ids"], found["assistant_masks"], strict=True)
    assert dialog_of(tokenizer, TEXTS[kind]).labels.tolist() == [
        token if mine else IGNORE_INDEX for token, mine in pairs
    ]


@pytest.mark.parametrize("kind", [*TEXTS, *SHOWN])
def test_what_was_asked_ends_before_the_last_answers_turn(tokenizer: Any, kind: str) -> None:
    """With the generation prompt it is what transformers' template renders with `add_generation_prompt`."""
    said = {**TEXTS, **SHOWN}[kind]
    last = max(number for number, turn in enumerate(said) if turn.role == "assistant")
    before = said[:last]
    text = tokenizer.apply_chat_template(template_messages(before), tokenize=False, add_generation_prompt=True)
    expected = tokenizer(written_by_transformers(text, before), add_special_tokens=False)["input_ids"]
    dialog = dialog_of(tokenizer, said)
    generation_prompt = ChatProcessor(tokenizer, PixelLimits()).generation_prompt
    assert [*dialog.ids[: dialog.prompt_len].tolist(), *generation_prompt] == expected
    assert dialog.num_prompt_media == sum(not isinstance(part, str) for turn in before for part in turn.content)
    assert dialog.reference == "".join(part for part in said[last].content if isinstance(part, str))


def test_a_message_that_the_template_leaves_out_is_an_error(tokenizer: Any) -> None:
    short = deepcopy(tokenizer)
    short.chat_template = "{% set messages = messages[:-1] %}" + tokenizer.chat_template
    with pytest.raises(UnreadableSample, match="leaves out or changes part of a message of 'assistant'"):
        dialog_of(short, TEXTS["several turns"])


def test_an_assistant_that_speaks_first_was_asked_nothing(tokenizer: Any) -> None:
    dialog = dialog_of(tokenizer, (Message("assistant", (PICTURE, "the answer")), Message("user", ("Rate it",))))
    assert (dialog.prompt_len, dialog.num_prompt_media, dialog.reference) == (0, 0, "the answer")


def test_a_question_alone_renders_without_a_prompt(tokenizer: Any) -> None:
    rendered = render_chat(Chat("one", (Message("user", ("Rate", PICTURE)),)), tokenizer, PixelLimits())
    assert (rendered.prompt_len, rendered.num_prompt_media, rendered.reference) == (0, 0, "")


def test_texts_are_at_positions_from_0_on_all_axes(tokenizer: Any) -> None:
    dialog = dialog_of(tokenizer, TEXTS["several turns"])
    assert dialog.positions.tolist() == [list(range(len(dialog.ids)))] * 3


def test_torch_ignores_the_labels_that_are_not_learned(tokenizer: Any) -> None:
    dialog = dialog_of(tokenizer, TEXTS["several turns"])
    labels, learned = dialog.labels, dialog.labels != IGNORE_INDEX
    logits = torch.randn(len(labels), len(tokenizer), generator=torch.Generator().manual_seed(0))
    assert torch.equal(cross_entropy(logits, labels), cross_entropy(logits[learned], labels[learned]))


def test_what_a_tokenizer_would_add_of_its_own_is_not_in_a_dialog(tokenizer: Any) -> None:
    adding = deepcopy(tokenizer)
    mark = "<|im_end|>"
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{mark} $A", special_tokens=[(mark, tokenizer.convert_tokens_to_ids(mark))]
    )
    assert adding.encode("Rate") != tokenizer.encode("Rate")
    assert torch.equal(dialog_of(adding, TEXTS["system"]).ids, dialog_of(tokenizer, TEXTS["system"]).ids)
    first, second = (ChatProcessor(one, PixelLimits()).generation_prompt for one in (adding, tokenizer))
    assert first == second


@pytest.mark.parametrize(
    ("parts", "kind", "grids"),
    [
        (("Rate",), "text", ()),
        (("Rate", WIDE), "image", ((1, 4, 6),)),
        ((PICTURE, CLIP), "video", ((1, 4, 4), (2, 4, 4))),
        ((CLIP,), "video", ((2, 4, 4),)),
    ],
)
def test_a_dialog_has_patches_and_visual_tokens_of_its_media_alone(
    tokenizer: Any, parts: tuple[Any, ...], kind: str, grids: tuple[tuple[int, int, int], ...]
) -> None:
    dialog = dialog_of(tokenizer, turns(parts, "3"))
    assert (dialog.kind, dialog.grids) == (kind, grids)
    assert (dialog.patches.dtype, dialog.visual_token_indices.dtype) == (torch.uint8, torch.int64)
    num_patches = sum(count * h * w for count, (_, h, w) in zip(dialog.num_frames, dialog.grids, strict=True))
    assert dialog.patches.shape == (num_patches, 3 * 16 * 16)
    pads = [tokenizer.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video")]
    is_pad = torch.isin(dialog.ids, torch.tensor(pads))
    assert dialog.visual_token_indices.tolist() == is_pad.nonzero()[:, 0].tolist()
    assert int(is_pad.sum()) * 4 == len(frame_pairs(dialog.grids, dialog.num_frames))


@pytest.mark.parametrize("parts", [("<|im_", "end|>"), ("<|vision_start|><|image", "_pad|><|vision_end|>")])
def test_a_special_token_in_two_pieces_is_unreadable_too(tokenizer: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(UnreadableSample, match="holds the token"):
        dialog_of(tokenizer, turns(parts, "3"))


def test_a_text_that_is_no_unicode_is_unreadable(tokenizer: Any) -> None:
    """Half of a surrogate pair, which JSON can spell."""
    with pytest.raises(UnreadableSample, match="surrogate"):
        dialog_of(tokenizer, turns("Rate \ud800", "3"))
