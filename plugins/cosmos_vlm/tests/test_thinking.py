"""Answers with thoughts: what transformers renders, and takes for the assistant's words, with a template that handles
thoughts as that of Qwen3-VL-Thinking does, and with one that leaves them as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from cosmos_core.data import Chat, Image, Message, ToolCall, Video
from cosmos_vlm.chat_processor import IGNORE_INDEX, ChatProcessor
from cosmos_vlm.processor_files import PixelLimits
from tests.chat_oracle import template_messages, written_by_transformers
from tests.tiny_reasoner import noise, write_tokenizer

SMALL = PixelLimits(image=(1024, 16_777_216), video=(1024, 25_165_824))
CORPUS = ["assistant\n\n<think>\n\n</think>\n\nThe ball falls.\n\n"] * 20
BEGIN = """
{%- macro shown(content) -%}
{%- if content is string -%}{{- content -}}{%- else -%}{%- for part in content -%}
{%- if part.type == 'text' -%}{{- part.text -}}
{%- else -%}{{- '<|vision_start|><|' + part.type + '_pad|><|vision_end|>' -}}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- macro calls(message) -%}
{%- for call in message.tool_calls or [] -%}
{{- '\\n<tool_call>' + call.function.name + '</tool_call>' -}}
{%- endfor -%}
{%- endmacro -%}
"""
KEEPING = (
    BEGIN
    + """
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.role == 'assistant' -%}
{%- generation -%}{{- shown(message.content) -}}
{%- if not message.tool_calls -%}{{- '<|im_end|>' -}}{%- endif -%}{%- endgeneration -%}
{%- if message.tool_calls -%}{{- calls(message) + '<|im_end|>' -}}{%- endif -%}
{%- else -%}{{- shown(message.content) + '<|im_end|>' -}}{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
)
THINKING = (
    BEGIN
    + """
{%- set asked = namespace(last=-1) -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{%- set asked.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- set text = shown(message.content) -%}
{%- if message.role == 'assistant' -%}
{%- set thought = '' -%}
{%- if '</think>' in text -%}
{%- set thought = text.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
{%- set text = text.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{%- generation -%}
{%- if loop.index0 > asked.last and (loop.last or thought) -%}
{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + text.lstrip('\\n') -}}
{%- else -%}{{- text -}}{%- endif -%}
{%- if not message.tool_calls -%}{{- '<|im_end|>' -}}{%- endif -%}{%- endgeneration -%}
{%- if message.tool_calls -%}{{- calls(message) + '<|im_end|>' -}}{%- endif -%}
{%- else -%}{{- text + '<|im_end|>' -}}{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}
"""
)
PICTURE = Image(noise(3, 64, 64))
CLIP = Video(noise(3, 2, 64, 64), (0.0, 0.5))
CALL = (ToolCall("measure", {}),)


def user(*parts: Any) -> Message:
    return Message("user", parts)


def assistant(*parts: str, calls: tuple[ToolCall, ...] = ()) -> Message:
    return Message("assistant", parts, calls)


DIALOGS = {
    "one thought": (user(PICTURE, "What?"), assistant("<think>\nIt is round.\n</think>\n\nThe ball falls.")),
    "no thought": (user("What?"), assistant("The ball falls.")),
    "no thought, and line breaks around": (user("What?"), assistant("\n\nThe ball falls.\n")),
    "an empty thought": (user("What?"), assistant("<think>\n\n</think>\n\nThe ball falls.")),
    "white space alone": (user("What?"), assistant("<think> \n </think>The ball falls. ")),
    "without its beginning": (user("What?"), assistant("It is round.\n</think>\nThe ball falls.")),
    "the same words twice": (user("What?"), assistant("<think>A ball.</think>A ball.")),
    "thoughts of earlier turns": (
        user(CLIP, "What?"), assistant("<think>\nIt is round.\n</think>\n\nA ball."),
        user("So?"), assistant("<think>\nGravity.\n</think>\n\nIt falls."),
    ),
    "the same answer in each turn": (
        user("What?"), assistant("<think>A ball.</think>A ball."),
        user("So?"), assistant("<think>A ball.</think>A ball."),
    ),
    "in several texts": (user("What?"), assistant("<think>\nIt is", " round.\n</think>\n", "\nA ball", ". ")),
    "before a call": (
        user("How far?"), assistant("<think>\nI measure.\n</think>\n\nWait. ", calls=CALL),
        Message("tool", ("3 m",)), assistant("<think>\nIt is 3.\n</think>\n\nThree."),
    ),
    "a call after no thought": (
        user("How far?"), assistant("Wait.", calls=CALL), Message("tool", ("3 m",)), assistant("Three."),
    ),
    "a user who speaks of thoughts": (user("What is <think>this</think>?"), assistant("A tag.")),
    "ends with a question": (user("What?"), assistant("<think>\nRound.\n</think>\n\nA ball."), user("So?")),
}  # fmt: skip


@pytest.fixture(scope="module", params=[KEEPING, THINKING], ids=["keeping", "thinking"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, CORPUS)
    loaded = AutoTokenizer.from_pretrained(folder)
    loaded.add_tokens(["<think>", "</think>"])
    loaded.chat_template = request.param
    return loaded


@pytest.mark.parametrize("kind", DIALOGS)
def test_thoughts_are_rendered_and_learned_as_by_transformers(tokenizer: Any, kind: str) -> None:
    messages = DIALOGS[kind]
    dialog = ChatProcessor(tokenizer, SMALL).encode(Chat(kind, messages))
    plain = template_messages(messages)
    text = written_by_transformers(tokenizer.apply_chat_template(plain, tokenize=False), messages)
    assert dialog.ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
    masked = tokenizer.apply_chat_template(plain, return_dict=True, return_assistant_tokens_mask=True)
    # transformers' mask is of the text with one token for each medium.
    learned = [token for token, mine in zip(masked["input_ids"], masked["assistant_masks"], strict=True) if mine]
    assert dialog.labels[dialog.labels != IGNORE_INDEX].tolist() == learned
    assert torch.equal(dialog.labels[dialog.labels != IGNORE_INDEX], dialog.ids[dialog.labels != IGNORE_INDEX])


def test_the_model_answers_to_the_templates_own_prompt(tokenizer: Any) -> None:
    question = (user(PICTURE, "What?"),)
    dialog = ChatProcessor(tokenizer, SMALL).encode(
        Chat("one", (*question, assistant("<think>\nHm.\n</think>\n\nA ball.")))
    )
    text = tokenizer.apply_chat_template(template_messages(question), tokenize=False, add_generation_prompt=True)
    expected = tokenizer(written_by_transformers(text, question), add_special_tokens=False)["input_ids"]
    prompt = ChatProcessor(tokenizer, SMALL).generation_prompt
    assert [*dialog.ids[: dialog.prompt_len].tolist(), *prompt] == expected
