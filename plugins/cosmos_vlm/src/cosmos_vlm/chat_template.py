"""A dialog as the text of the backbone's chat template, with its images and videos as patches.

See docs/models/reasoner.md, Chat template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from cosmos_core.data import Chat, Image, Message, Video
from cosmos_vlm.processor_files import PixelLimits
from cosmos_vlm.tokenizer import SPECIAL
from cosmos_vlm.vision import MERGE, fit_image, fit_video, patches_of

__all__ = ["Grid", "RenderedChat", "render_chat"]

ROLES = ("system", "user", "assistant", "tool")
HEADER, END = "<|im_start|>", "<|im_end|>"
IMAGE, VIDEO = (f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video"))
FRAME_PAIR = "<{:.1f} seconds><|vision_start|><|video_pad|><|vision_end|>"

TEXT_START, TEXT_END = "\ufdd0", "\ufdd1"
"""Put around every text that goes through the template, to find it again. Unicode reserves both for such use."""
PARTS = re.compile(f"({TEXT_START}.*?{TEXT_END}|{re.escape(IMAGE)}|{re.escape(VIDEO)})", re.DOTALL)

Grid = tuple[int, int, int]


class RenderedChat:
    """Text with one pad for each image and each frame pair of a video.

    loss_mask: for each character, whether it is learned. template_text: all that the template added. pad_sizes: rows
    and columns of tokens that each pad stands for. prompt_len: characters before the assistant's last message with
    text. patches, grids, num_prompt_media, reference: as in TokenizedConversation.
    """

    def __init__(self) -> None:
        self.text = ""
        self.loss_mask = bytearray()
        self.template_text = ""
        self.pad_sizes: list[tuple[int, int]] = []
        self.patches: list[torch.Tensor] = []
        self.grids: list[Grid] = []
        self.prompt_len, self.num_prompt_media, self.reference = 0, 0, ""

    def add_text(self, text: str, *, learned: bool) -> None:
        """Text of a message."""
        self.text += text
        self.loss_mask += bytes([learned]) * len(text)

    def add_template_text(self, text: str, *, learned: bool = False) -> None:
        """Text that the template puts around messages and media."""
        self.template_text += text
        self.add_text(text, learned=learned)

    def add_media(self, media: Image | Video, limits: PixelLimits) -> None:
        """An image, or a video as frame pairs, each after its time. Raises ValueError for extreme shapes."""
        if isinstance(media, Image):
            grid, texts = self._add_image(media, limits), [IMAGE]
        else:
            grid, texts = self._add_video(media, limits)
        self.grids.append(grid)
        self.pad_sizes += [(grid[1] // MERGE, grid[2] // MERGE)] * grid[0]
        for text in texts:
            self.add_template_text(text)

    def _add_image(self, image: Image, limits: PixelLimits) -> Grid:
        _, height, width = image.pixels.shape
        size = fit_image(height, width, *limits.image)
        patches, grid = patches_of(image.pixels[None], size)
        self.patches.append(patches)
        return grid

    def _add_video(self, video: Video, limits: PixelLimits) -> tuple[Grid, list[str]]:
        frames, seconds = video.pixels.transpose(0, 1), list(video.seconds)
        height, width = frames.shape[-2:]
        # One frame is shown as a pair.
        size = fit_video(max(len(frames), 2), height, width, *limits.video)
        patches, grid = patches_of(frames, size)
        self.patches.append(patches)
        seconds += seconds[-1:] * (2 * grid[0] - len(seconds))
        pairs = zip(seconds[::2], seconds[1::2], strict=True)
        return grid, [FRAME_PAIR.format((first + second) / 2) for first, second in pairs]


def render_chat(chat: Chat, tokenizer: Any, limits: PixelLimits) -> RenderedChat:
    """The dialog by the tokenizer's chat template.

    Raises ValueError for unknown roles, for what the template leaves out or changes, and for shapes the vision tower
    cannot take.
    """
    rendered = RenderedChat()
    expected = [(message, part) for message in chat.messages for part in message.content]
    pieces = PARTS.split(_templated(chat, tokenizer))
    found = pieces[1::2]
    for number, (message, part) in enumerate(expected):
        if number == len(found) or found[number] != _marked(part):
            raise ValueError(
                f"the backbone's chat template leaves out or changes part of a message of '{message.role}'"
            )
    if len(found) > len(expected):
        raise ValueError("the backbone's chat template repeats a part of a message")
    rendered.add_template_text(pieces[0])
    answer: Message | None = None
    for (message, part), after in zip(expected, pieces[2::2], strict=True):
        if message.role == "assistant" and message is not answer:
            answer = message
            _begin_answer(message, rendered)
        if isinstance(part, str):
            rendered.add_text(part, learned=message.role == "assistant")
        else:
            rendered.add_media(part, limits)
        # The token that ends a message belongs to the answer, unless calls come between.
        learned = END if after.startswith(END) and message.role == "assistant" else ""
        rendered.add_template_text(learned, learned=True)
        rendered.add_template_text(after[len(learned) :])
    return rendered


def _begin_answer(message: Message, rendered: RenderedChat) -> None:
    texts = [part for part in message.content if isinstance(part, str)]
    if texts:
        rendered.prompt_len = max(0, rendered.text.rfind(HEADER))
        rendered.num_prompt_media = len(rendered.grids)
        rendered.reference = "".join(texts)


def _marked(part: str | Image | Video) -> str:
    """What stands for a part in the template's text."""
    if isinstance(part, str):
        return f"{TEXT_START}{part}{TEXT_END}"
    return IMAGE if isinstance(part, Image) else VIDEO


def _templated(chat: Chat, tokenizer: Any) -> str:
    """The text that the template makes of the dialog, with marks around texts. Raises ValueError."""
    from jinja2 import TemplateError

    for message in chat.messages:
        if message.role not in ROLES:
            raise ValueError(f"unknown role '{message.role}'")
        if any(mark in part for part in message.content if isinstance(part, str) for mark in (TEXT_START, TEXT_END)):
            raise ValueError("a text holds U+FDD0 or U+FDD1, which are no characters")
    calls = [{"type": "function", "function": asdict(call)} for message in chat.messages for call in message.tool_calls]
    described = json.dumps([calls, chat.tools], ensure_ascii=False)
    for token in (*SPECIAL, TEXT_START, TEXT_END):
        if token in described:
            raise ValueError(f"a tool or a call holds the token {token}")
    try:
        text: str = tokenizer.apply_chat_template(
            list(map(_for_template, chat.messages)), tools=list(chat.tools) or None, tokenize=False
        )
    except TemplateError as error:
        raise ValueError(f"the backbone's chat template refuses the dialog ({error})") from None
    return text


def _for_template(message: Message) -> dict[str, Any]:
    """A message as chat templates take it."""
    values: dict[str, Any] = {"role": message.role, "content": list(_blocks(message)) or ""}
    if message.tool_calls:
        values["tool_calls"] = [{"type": "function", "function": asdict(call)} for call in message.tool_calls]
    return values


def _blocks(message: Message) -> Iterator[dict[str, str]]:
    for part in message.content:
        if isinstance(part, str):
            yield {"type": "text", "text": _marked(part)}
        else:
            yield {"type": "image" if isinstance(part, Image) else "video"}
