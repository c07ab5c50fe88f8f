"""A row of data as a `Chat` record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cosmos_core.data.chat.forms import MediaReference, Turn, parse_dialog
from cosmos_core.data.chat.media import MediaReader
from cosmos_core.data.samples import Chat, Image, Message, Video
from cosmos_core.data.source import UnreadableSample

__all__ = ["to_chat"]


def to_chat(row: Mapping[str, Any], key: str, where: str, media: MediaReader) -> Chat:
    """The dialog of a row, in any of the four forms, with its media.

    key: the sample's name. where: file and line, for messages. Raises UnreadableSample.
    """
    try:
        dialog = parse_dialog(row)
    except ValueError as error:
        raise UnreadableSample(where, str(error)) from None
    try:
        return Chat(key, tuple(_message(turn, media) for turn in dialog.turns), dialog.tools, where)
    except UnreadableSample as error:
        raise UnreadableSample(f"{where}: {error.where}", error.reason, error.key) from None


def _message(turn: Turn, media: MediaReader) -> Message:
    return Message(turn.role, tuple(_part(part, media) for part in turn.content), turn.tool_calls)


def _part(part: str | MediaReference, media: MediaReader) -> str | Image | Video:
    if isinstance(part, str):
        return part
    return media.image(part.source) if part.kind == "image" else media.video(part.source)
