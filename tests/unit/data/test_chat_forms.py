"""Rows of the four forms as dialogs: what they become, and what is refused with its reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cosmos_core.data import ToolCall
from cosmos_core.data.chat import form_of
from cosmos_core.data.chat.forms import Dialog, MediaReference, Turn, parse_dialog

PICTURE, OTHER, FILM = (
    MediaReference("image", "a.png"),
    MediaReference("image", "b.png"),
    MediaReference("video", "c.mp4"),
)
ANSWER = {"role": "assistant", "content": "3"}


def one_question(*content: Any) -> tuple[Turn, ...]:
    return (Turn("user", content), Turn("assistant", ("3",)))


def asked(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}, ANSWER], **fields}


def called(call: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}, ANSWER]}


def shared(value: str, **fields: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": value}, {"from": "gpt", "value": "3"}], **fields}


SAME = {
    "OpenAI messages": asked(
        [
            {"type": "image", "image": "a.png"},
            {"type": "text", "text": "one "},
            {"type": "image_url", "image_url": {"url": "b.png"}},
            {"type": "video", "video": "c.mp4"},
        ]
    ),
    "ShareGPT conversations": shared("<image>one <image><video>", images=["a.png", "b.png"], videos=["c.mp4"]),
    "LLaVA": shared("<image>one <image><video>", image=["a.png", "b.png"], video="c.mp4"),
    "ms-swift": {
        "query": "<image>one <image><video>",
        "response": "3",
        "images": ["a.png", "b.png"],
        "videos": ["c.mp4"],
    },
}


@pytest.mark.parametrize("form", SAME)
def test_one_dialog_in_each_form_is_the_same(form: str) -> None:
    assert form_of(SAME[form]) == form
    assert parse_dialog(SAME[form]).turns == one_question(PICTURE, "one ", OTHER, FILM)


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        (asked("<image>one", images=["a.png"]), one_question(PICTURE, "one")),
        (asked([{"type": "text", "text": "a <image> tag"}]), one_question("a <image> tag")),
        (asked([{"type": "image"}, {"type": "text", "text": "x"}], images=["a.png"]), one_question(PICTURE, "x")),
        (asked("one", images=None, tools=None), one_question("one")),
        (asked("one", tools=" "), one_question("one")),
        (asked("one", tools="null"), one_question("one")),
        (asked("one", conversations=[], response=""), one_question("one")),
        (asked("<image>one", images=[], image="a.png"), one_question(PICTURE, "one")),
        (asked("<image>one", images=["a.png"], image=""), one_question(PICTURE, "one")),
        (shared("one", image="", video=""), one_question("one")),
        (shared("two\n<image>", image="a.png"), one_question("two\n", PICTURE)),
        ({**shared("x"), "system": "Be brief"}, (Turn("system", ("Be brief",)), *one_question("x"))),
        (
            {"query": "<image>", "response": "3", "images": ["a.png"], "history": [["q", "r"]]},
            (Turn("user", ("q",)), Turn("assistant", ("r",)), *one_question(PICTURE)),
        ),
    ],
)
def test_rows_become_turns(row: dict[str, Any], turns: tuple[Turn, ...]) -> None:
    assert parse_dialog(row).turns == turns


def test_media_go_to_any_turn_in_any_order() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "<video>one"},
            ANSWER,
            {"role": "user", "content": "two<image>and<video><image>"},
            ANSWER,
        ],
        "images": ["a.png", "b.png"],
        "videos": ["c.mp4", "d.mp4"],
    }
    turns = parse_dialog(row).turns
    assert turns[0].content == (FILM, "one")
    assert turns[2].content == ("two", PICTURE, "and", MediaReference("video", "d.mp4"), OTHER)


def test_an_answer_keeps_the_words_that_stand_for_media_in_questions() -> None:
    row = {"query": "Which word?", "response": "Write <image> or <video>."}
    assert parse_dialog(row).turns[1].content == ("Write <image> or <video>.",)
    with pytest.raises(ValueError, match="1 images for 0 places"):
        parse_dialog({**row, "images": ["a.png"]})


TOOLS = [{"type": "function", "function": {"name": "look"}}]
CALLED = Dialog(
    (
        Turn("user", ("where?",)),
        Turn("assistant", ("I look.",), (ToolCall("look", {"at": 1}), ToolCall("look", {"at": 2}))),
        Turn("tool", ("a tree",)),
        Turn("assistant", ("There.",)),
    ),
    tuple(TOOLS),
)


@pytest.mark.parametrize(
    "row",
    [
        {
            "messages": [
                {"role": "user", "content": "where?"},
                {
                    "role": "assistant",
                    "content": "I look.",
                    "tool_calls": [
                        {"id": str(at), "type": "function", "function": {"name": "look", "arguments": {"at": at}}}
                        for at in (1, 2)
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "a tree"},
                {"role": "assistant", "content": "There."},
            ],
            "tools": TOOLS,
        },
        {
            "conversations": [
                {"from": "human", "value": "where?"},
                {"from": "gpt", "value": "I look."},
                {"from": "function_call", "value": '{"name": "look", "arguments": {"at": 1}}'},
                {"from": "function_call", "value": '{"name": "look", "arguments": {"at": 2}}'},
                {"from": "observation", "value": "a tree"},
                {"from": "gpt", "value": "There."},
            ],
            "tools": json.dumps(TOOLS),
        },
    ],
    ids=["OpenAI", "ShareGPT"],
)
def test_calls_and_their_results_keep_their_parts(row: dict[str, Any]) -> None:
    assert parse_dialog(row) == CALLED


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "a", "text": "x"}, "no field messages, conversations or response"),
        ({"messages": "x"}, "turns are not a list but a text"),
        ({"prompt": "x", "response": "y"}, "a response but no query"),
        ({"messages": [ANSWER], "response": "y"}, "fields messages and response; keep the one"),
        ({"messages": [7, ANSWER]}, "turn 1 is not an object"),
        ({"messages": [{"content": "x"}, ANSWER]}, "turn 1 has no role"),
        (
            {"conversations": [{"from": "Human", "value": "x"}]},
            "turn 1 has the unknown role 'Human'; known are system, user, human",
        ),
        ({"messages": [{"role": "developer", "content": "x"}, ANSWER]}, "unknown role 'developer'"),
        ({"messages": [{**ANSWER, "reasoning": "hm"}]}, "has the field reasoning, which is not used"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}, ANSWER]}, "has the field tool_calls"),
        (asked([{"type": "text", "text": "x", "color": 1}]), "type 'text' with text, color"),
        (asked([{"type": "input_audio", "input_audio": {}}]), "type 'input_audio'"),
        (asked([{"type": "image_url", "image_url": {"url": "a", "detail": "low"}}]), "field detail"),
        (asked(7), "neither a text nor a list"),
        (asked(None), "turn 1 of role 'user' has no content"),
        ({"conversations": [{"from": "human"}, {"from": "gpt", "value": "y"}]}, "turn 1 of role 'human' has no value"),
        ({"query": "x", "response": "y", "history": [[None, "a"]]}, "turn 1 of role 'user' has no content"),
        (asked("x", audios=["a.wav"]), "field audios is not supported"),
        ({"messages": [{"role": "user", "content": "x"}]}, "no turn is an answer"),
        (asked("x") | {"messages": [{"role": "assistant", "content": " \n"}]}, "turn 1 is an empty answer"),
        ({"messages": [{"role": "assistant", "content": "\u200b\ufeff"}]}, "turn 1 is an empty answer"),
        ({"messages": [{"role": "assistant", "content": None}]}, "turn 1 is an empty answer"),
        ({"messages": [{"role": "assistant", "content": [{"type": "image", "image": "a.png"}]}]}, "is an empty answer"),
        (asked("<image><image>", images=["a.png"]), "1 images for 2 places"),
        (asked("<video>", images=[]), "0 videos for 1 places"),
        (asked("x", image="a.png", images=["a.png"]), "a field images and a field image"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]}, "call without a name"),
        ({"conversations": [{"from": "function_call", "value": "look()"}]}, "not a call in JSON"),
        (asked("x", tools="look"), "tools are not JSON"),
        (asked("x\0y"), "turn 1 holds a NUL character"),
        ({"query": "x", "response": [{"type": "text", "text": "x\0y"}]}, "turn 2 holds a NUL character"),
        (called({"name": "lo\0ok"}), "turn 1 has a call that holds a NUL character"),
        (called({"function": {"name": "look", "arguments": "x\0y"}}), "turn 1 has a call that holds a NUL character"),
        ({"query": "x", "response": "y", "history": [["a"]]}, "history is not a list of pairs"),
    ],
)
def test_what_cannot_be_learned_whole_is_refused_with_its_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_dialog(row)
