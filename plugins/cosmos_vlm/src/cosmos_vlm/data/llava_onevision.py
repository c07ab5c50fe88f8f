"""LLaVA-OneVision: images with conversations, streamed or local (docs/data.md, LLaVA-OneVision)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cosmos_core.data import Chat, UnreadableSample
from cosmos_core.data.chat import MediaReader, to_chat
from cosmos_vlm.data.rows import RowsSource

__all__ = ["LlavaSource"]

QUESTIONERS = ("human", "user")
ANSWERERS = ("gpt", "assistant")


class LlavaSource(RowsSource):
    """Chat records of the `llava_ov` dataset."""

    def chat(self, row: Mapping[str, Any], key: str, where: str, media: MediaReader) -> Chat:
        """The dialog of a row. Raises UnreadableSample, also for rows without image or answer."""
        try:
            messages = _messages(row)
        except ValueError as error:
            raise UnreadableSample(where, str(error)) from None
        return to_chat({**row, "conversations": messages}, key, where, media)


def _messages(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The turns with the image before the first user text, wherever its marker is."""
    conversation, image = row.get("conversations"), row.get("image")
    if not image:
        raise ValueError("no image")
    if not isinstance(conversation, list) or len(conversation) < 2:
        raise ValueError("fewer than two turns")
    images = [{"type": "image"}] * (len(image) if isinstance(image, list) else 1)
    messages = []
    for turn in conversation:
        speaker, text = (turn.get("from"), turn.get("value")) if isinstance(turn, Mapping) else (None, None)
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise ValueError("a turn has no speaker or no text")
        # What an answer says stays as it is, whatever words it holds.
        text = text.strip() if speaker in ANSWERERS else text.replace("<image>", "").strip()
        shown, images = (images, []) if speaker in QUESTIONERS else ([], images)
        messages.append({**turn, "value": [*shown, {"type": "text", "text": text}]})
    if images:
        raise ValueError("no turn is the user's")
    return messages
