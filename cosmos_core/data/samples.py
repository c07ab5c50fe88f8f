"""The record types datasets yield and families accept. Datasets and families meet only here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

__all__ = ["Answer", "Chat", "Image", "Item", "Message", "Record", "StoredClip", "ToolCall", "Video", "VideoText"]


class StoredClip(Protocol):
    """A clip that is not decoded yet. shape: (3, T, H, W) once it is."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of the decoded clip."""
        ...

    def identity(self) -> str:
        """A digest: the same for the same pixels, whatever the file is called, and another for all others.

        Datasets share a cache by it.
        """
        ...

    def load(self) -> torch.Tensor:
        """uint8 [3, T, H, W]. Raises UnreadableSample."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """Base of the record types. key: the sample's name in messages."""

    key: str


@dataclass(frozen=True, slots=True)
class VideoText(Record):
    """A captioned clip (record type ``video_text``).

    key: sample name. video: uint8 [3, T, H, W], RGB, or a clip yet to be decoded. caption: the text given to the
    model, already chosen and possibly dropped to "". fps: frames a second as the model should see them.
    condition_frames: leading latent frames kept clean (0: text to video, 1: image to video, 2 or more: video to video).
    """

    video: torch.Tensor | StoredClip
    caption: str
    fps: float
    condition_frames: int = 0

    def pixels(self) -> torch.Tensor:
        """The decoded video. Raises UnreadableSample."""
        return self.video if isinstance(self.video, torch.Tensor) else self.video.load()


@dataclass(frozen=True, slots=True)
class Image:
    """An image in a dialog: uint8 [3, H, W], RGB. file: where it was read, if it was in a file of its own."""

    pixels: torch.Tensor
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """A video in a dialog: uint8 [3, T, H, W], RGB.

    seconds: when each frame is shown. file, indices, fps: where it was read, the number of each frame in that file, and
    the file's frames a second; for people, where they are known.
    """

    pixels: torch.Tensor
    seconds: tuple[float, ...]
    file: str | None = None
    indices: tuple[int, ...] = ()
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant makes. arguments: an object, or its text as the data has it."""

    name: str
    arguments: Mapping[str, Any] | str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a dialog.

    role: 'system', 'user', 'assistant' or 'tool', whose messages are results of calls. content: texts and media, in
    order. tool_calls: the assistant's, after its content.
    """

    role: str
    content: tuple[str | Image | Video, ...]
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Chat(Record):
    """A dialog (record type ``chat``); the model learns the assistant's texts, not its calls.

    tools: descriptions of the tools that may be called, as the backbone's chat template takes them.

    where: what messages call it, such as key, file and line; "" for the key alone.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to a validation sample. key: the sample's; reference: the answer in the data."""

    key: str
    prediction: str
    reference: str


@dataclass(frozen=True, slots=True)
class Item:
    """A prepared sample and its global position, which keys every random draw made for it.

    key: its name. dataset: the mixture's member that it comes from. num_tokens: by which packs count it; 0: not known.
    kind: the pool packer packs one kind together.
    """

    position: int
    value: Any
    key: str = ""
    dataset: str = ""
    num_tokens: int = 0
    kind: str = ""
