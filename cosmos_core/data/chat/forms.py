"""The four usual forms of a dialog in a row of data, as turns with references to media (docs/data.md, Dialogs)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from cosmos_core.data.samples import ToolCall
from cosmos_core.names import is_blank, text_fault
from cosmos_core.strict_json import loads

__all__ = ["FIELDS", "Dialog", "MediaReference", "Turn", "form_of", "parse_dialog"]

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
CALLS = ("function_call", "tool_call")
"""Roles of turns whose text is a call, or a list of calls, in JSON."""
IMAGES, VIDEOS = ("images", "image"), ("videos", "video")
USED = ("id", "system", "tools", "messages", "conversations", "query", "response", "history", *IMAGES, *VIDEOS)
REFUSED = ("audio", "audios", "objects", "chosen", "rejected", "rejected_response", "rejected_messages", "functions")
"""Fields that change what a dialog means and that nothing here understands."""
FIELDS = (*USED, *REFUSED)
"""Fields of a row that are read; others are not."""
HOLDERS = ("conversations", "messages", "response")
"""Fields of which one holds the dialog. Others may be empty, as in tables of rows of several forms."""
PLACEHOLDER = re.compile("(<image>|<video>)")

OPENAI, SHAREGPT, LLAVA, SWIFT = "OpenAI messages", "ShareGPT conversations", "LLaVA", "ms-swift"


@frozen
class MediaReference:
    """An image or a video in a turn. kind: 'image' or 'video'; source: as the data names it, None until it is known."""

    kind: str
    source: Any = None


@frozen
class Turn:
    """A message whose media are not opened yet."""

    role: str
    content: tuple[str | MediaReference, ...]
    tool_calls: tuple[ToolCall, ...] = ()


@frozen
class Dialog:
    """A row's turns, and the tools that may be called."""

    turns: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] = ()


def form_of(row: Mapping[str, Any]) -> str:
    """The form of a row, by its fields. Raises ValueError when it has none of the four."""
    fields = _present(row)
    if "conversations" in fields:
        return LLAVA if fields.keys() & {"image", "video"} else SHAREGPT
    if "messages" in fields:
        return SWIFT if fields.keys() & {*IMAGES, *VIDEOS} else OPENAI
    if "response" in fields:
        return SWIFT
    raise ValueError("there is no field messages, conversations or response")


def parse_dialog(row: Mapping[str, Any]) -> Dialog:
    """The dialog of a row.

    Raises ValueError for unknown roles and fields, for empty answers, and when places for images or videos are not as
    many as images or videos.
    """
    form_of(row)
    fields = _present(row)
    holders = [name for name in HOLDERS if fields.get(name)]
    if len(holders) > 1:
        raise ValueError(f"there are the fields {' and '.join(holders)}; keep the one that holds the dialog")
    if holders:
        fields = {name: value for name, value in fields.items() if name in holders or name not in HOLDERS}
    for name in REFUSED:
        if fields.get(name):
            raise ValueError(f"the field {name} is not supported")
    turns: list[Turn] = []
    for number, turn in enumerate(_raw_turns(fields), start=1):
        try:
            turns = _joined(turns, _turn(turn))
        except ValueError as error:
            raise ValueError(f"turn {number} {error}") from None
    if not any(turn.role == "assistant" and turn.content for turn in turns):
        raise ValueError("no turn is an answer of the assistant")
    return Dialog(tuple(_with_media(turns, fields)), _tools(fields.get("tools")))


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without empty columns: a table has all columns in all its rows."""
    return {name: value for name, value in values.items() if value is not None}


def _raw_turns(fields: Mapping[str, Any]) -> Iterator[Any]:
    """Turns as the data has them; those of query and response as messages."""
    if "system" in fields:
        yield {"role": "system", "content": fields["system"]}
    turns = fields.get("conversations", fields.get("messages"))
    if turns is None:
        turns = list(_of_pairs(fields))
    if not isinstance(turns, list):
        raise ValueError(f"the turns are not a list{' but a text' if isinstance(turns, str) else ''}")
    yield from turns


def _of_pairs(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "query" not in fields:
        # The question may have another name, such as prompt or instruction.
        raise ValueError('there is a response but no query; "query": "" says that nothing was asked')
    history = fields.get("history", [])
    for pair in [*(history if isinstance(history, list) else [None]), [fields["query"], fields["response"]]]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("history is not a list of pairs of a query and a response")
        yield from ({"role": role, "content": text} for role, text in zip(("user", "assistant"), pair, strict=True))


def _turn(value: Any) -> Turn:
    """Raises ValueError, whose text follows the turn's number."""
    if not isinstance(value, Mapping):
        raise ValueError("is not an object")
    fields = _present(value)
    names = ("from", "value") if "from" in fields else ("role", "content")
    is_said = names[1] in fields
    speaker, content, calls = fields.pop(names[0], None), fields.pop(names[1], ""), fields.pop("tool_calls", [])
    if not isinstance(speaker, str):
        raise ValueError("has no role")
    role = "assistant" if speaker in CALLS else ROLES.get(speaker)
    if role is None:
        raise ValueError(f"has the unknown role '{speaker}'; known are {', '.join((*ROLES, *CALLS))}")
    # The results of calls come in their order, so that they need no name.
    unused = sorted(fields.keys() - ({"name", "tool_call_id"} if role == "tool" else set()))
    if unused or (calls and role != "assistant"):
        raise ValueError(
            f"of role '{speaker}' has the field {unused[0] if unused else 'tool_calls'}, which is not used"
        )
    if role == "user" and not is_said:
        raise ValueError(f"of role '{speaker}' has no {names[1]}; \"\" says that nothing was asked")
    if speaker in CALLS:
        return Turn(role, (), _calls(_json(content, "is not a call in JSON")))
    turn = Turn(role, tuple(_content(content, literal=role == "assistant")), _calls(calls))
    if fault := next(filter(None, (text_fault(part) for part in turn.content if isinstance(part, str))), ""):
        raise ValueError(fault)
    if role == "assistant" and not turn.tool_calls and _is_blank(turn):
        raise ValueError("is an empty answer")
    return turn


def _is_blank(turn: Turn) -> bool:
    """Whether it has no words: images and videos are never learned."""
    return all(is_blank(part) for part in turn.content if isinstance(part, str))


def _joined(turns: Sequence[Turn], turn: Turn) -> list[Turn]:
    """The turns and one more. Calls that are turns of their own belong to the assistant's turn before them."""
    last = turns[-1] if turns else None
    if last is not None and last.role == turn.role == "assistant" and turn.tool_calls and not turn.content:
        return [*turns[:-1], evolve(last, tool_calls=last.tool_calls + turn.tool_calls)]
    return [*turns, turn]


def _content(content: Any, *, literal: bool) -> Iterator[str | MediaReference]:
    """Parts of a message. literal: no word in its text stands for an image or a video."""
    if isinstance(content, str):
        for text in [content] if literal else PLACEHOLDER.split(content):
            if not literal and text in ("<image>", "<video>"):
                yield MediaReference(text.strip("<>"))
            elif text:
                yield text
    elif isinstance(content, list):
        for block in content:
            yield _block(block)
    else:
        raise ValueError("has a content that is neither a text nor a list")


def _block(value: Any) -> str | MediaReference:
    """A part of a content list, such as ``{"type": "image_url", "image_url": {"url": ...}}``."""
    if not isinstance(value, Mapping):
        raise ValueError("has a part that is not an object")
    fields = _present(value)
    kind = fields.pop("type", None)
    if kind == "text" and isinstance(fields.get("text"), str) and len(fields) == 1:
        return str(fields["text"])
    media = kind.removesuffix("_url") if isinstance(kind, str) else ""
    if media not in ("image", "video") or len(fields) > 1:
        raise ValueError(f"has a part of type '{kind}' with {', '.join(fields) or 'nothing'}, which is not understood")
    source = next(iter(fields.values()), None)
    if isinstance(source, Mapping) and "url" in source:
        unused = sorted(_present(source).keys() - {"url"})
        if unused:
            raise ValueError(f"has an {kind} with the field {unused[0]}, which is not used")
        source = source["url"]
    return MediaReference(media, source)


def _with_media(turns: Sequence[Turn], fields: Mapping[str, Any]) -> Iterator[Turn]:
    """The turns, with the row's images and videos in their places. Raises ValueError when they are not as many."""
    given = {"image": _listed(fields, IMAGES), "video": _listed(fields, VIDEOS)}
    for kind, sources in given.items():
        places = sum(
            isinstance(part, MediaReference) and part.kind == kind and part.source is None
            for turn in turns
            for part in turn.content
        )
        if places != len(sources):
            raise ValueError(f"{len(sources)} {kind}s for {places} places in the text")
    queues = {kind: iter(sources) for kind, sources in given.items()}
    for turn in turns:
        content = (
            evolve(part, source=next(queues[part.kind]))
            if isinstance(part, MediaReference) and part.source is None
            else part
            for part in turn.content
        )
        yield evolve(turn, content=tuple(content))


def _listed(fields: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    present = [fields[name] for name in names if fields.get(name)]
    if len(present) > 1:
        raise ValueError(f"there is a field {names[0]} and a field {names[1]}")
    value = present[0] if present else []
    return value if isinstance(value, list) else [value]


def _calls(values: Any) -> tuple[ToolCall, ...]:
    return tuple(_call(value) for value in (values if isinstance(values, list) else [values]))


def _call(value: Any) -> ToolCall:
    fields = _present(value) if isinstance(value, Mapping) else {}
    function = fields.get("function", fields)
    if isinstance(function, Mapping):
        name, arguments = function.get("name"), function.get("arguments", {})
        if isinstance(name, str) and isinstance(arguments, Mapping | str):
            # JSON escapes what is in an object.
            if fault := text_fault(name) or (text_fault(arguments) if isinstance(arguments, str) else ""):
                raise ValueError(f"has a call that {fault}")
            return ToolCall(name, arguments)
    raise ValueError("has a call without a name, or whose arguments are not an object")


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    if isinstance(value, str):  # As columns of tables hold them, "null" among them.
        value = _json(value, "tools are not JSON") if value.strip() else []
    tools = value or []
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise ValueError("tools are not a list of objects")
    return tuple(tools)


def _json(text: Any, fault: str) -> Any:
    try:
        return loads(text)
    except (ValueError, TypeError, AttributeError):
        raise ValueError(fault) from None
