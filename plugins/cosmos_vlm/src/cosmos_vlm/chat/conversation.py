"""A conversation with a model: its messages, the media for the next one, and the answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import define, field, frozen

from cosmos_core.data import Chat, Image, Message, UnreadableSample, Video
from cosmos_core.data.chat import read_image, read_video
from cosmos_core.errors import Problem, UserError
from cosmos_vlm.chat.answers import stream
from cosmos_vlm.chat.model import ChatModel
from cosmos_vlm.chat.settings import Settings, ask_for_reasoning, split

__all__ = ["Clips", "Conversation", "open_media"]


@frozen
class Clips:
    """How videos are shown: about so many frames a second, and at most so many, spread evenly."""

    fps: float = 2.0
    max_frames: int = 32


def open_media(path: Path, kind: str, clips: Clips) -> Image | Video:
    """An image or a video from a file. kind: 'image' or 'video'. Raises UserError."""
    try:
        return read_image(path) if kind == "image" else read_video(path, clips.fps, clips.max_frames)
    except UnreadableSample as error:
        raise UserError(f"the {kind} cannot be used", [Problem(message=error.reason, file=str(path))]) from None


@define
class Conversation:
    """The messages so far, each answer without its reasoning, as the models expect of a history."""

    model: ChatModel
    settings: Settings
    messages: list[Message] = field(factory=list)

    def ask(self, text: str, media: list[Image | Video], write: Callable[[str], object]) -> str:
        """The answer to a message, written while it is decoded; Ctrl-C ends it early, and the conversation goes on.

        Raises UserError for what the chat template or the vision tower cannot take; the message is then forgotten.
        """
        pieces: list[str] = []

        def collect(piece: str) -> None:
            pieces.append(piece)
            write(piece)

        prompt = ask_for_reasoning(text) if self.settings.reasoning else text
        dialog = Chat("prompt", (*self.messages, Message("user", (*media, prompt))))
        try:
            output = stream(self.model, self.model.processor.prompt(dialog), self.settings, collect)
        except KeyboardInterrupt:
            output = "".join(pieces)
        except UnreadableSample as error:
            raise UserError("the message cannot be used", [Problem(message=error.reason)]) from None
        reply = split(output)
        self.messages += [Message("user", (*media, text)), Message("assistant", (reply.answer or "...",))]
        return output

    def reset(self) -> None:
        """Forget everything."""
        self.messages.clear()
