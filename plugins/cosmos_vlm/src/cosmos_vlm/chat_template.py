"""A dialog as the text of the backbone's chat template, with its images and videos as patches.

See docs/models/reasoner.md, Chat template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import torch
from attrs import frozen

from cosmos_core.data import Chat, Image, Message, Video
from cosmos_vlm.processor_files import PixelLimits
from cosmos_vlm.tokenizer import SPECIAL
from cosmos_vlm.vision import MERGE, Grid, fit_image, fit_video, patches_of

__all__ = ["RenderedChat", "asked_in", "generation_prompt", "render_chat"]

ROLES = ("system", "user", "assistant", "tool")
HEADER, END = "<|im_start|>", "<|im_end|>"
IMAGE, VIDEO = (f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video"))
FRAME_PAIR = "<{:.1f} seconds><|vision_start|><|video_pad|><|vision_end|>"

TEXT_MARKS, THOUGHT_MARKS = ("\ufdd0", "\ufdd1"), ("\ufdd2", "\ufdd3")
"""Put around every text that goes through the template, to find it again. Unicode reserves them for such use."""
MARKS = (*TEXT_MARKS, *THOUGHT_MARKS)
PARTS = re.compile(
    "("
    + "|".join([*(f"{start}.*?{end}" for start, end in (TEXT_MARKS, THOUGHT_MARKS)), *map(re.escape, (IMAGE, VIDEO))])
    + ")",
    re.DOTALL,
)
MARKUP = re.compile(r"(?:<\d+\.\d seconds>)?(?:" + "|".join(map(re.escape, SPECIAL)) + ")")
"""What stands in a turn beside its words."""
THOUGHT_END = "</think>"
FAILURES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What the expressions of a template may raise, beside its own errors."""
TAGS = re.compile(f"(<think>|{THOUGHT_END})")


def asked_in(text: str) -> str:
    """The users' words in a dialog as the template writes it, without marks; "" where there are none."""
    turns = [turn.removeprefix("user\n") for turn in text.split(HEADER) if turn.startswith("user\n")]
    return "\n\n".join(words for turn in turns if (words := MARKUP.sub("", turn).strip()))


class RenderedChat:
    """Text with one pad for each image and each frame pair of a video.

    loss_mask: for each character, whether it is learned. template_text: all that the template added. pad_sizes: rows
    and columns of tokens that each pad stands for. prompt_len: characters before the assistant's last message with
    text. patches: of each image or video. grids, num_frames, num_prompt_media, reference: as in TokenizedConversation.
    """

    def __init__(self) -> None:
        self.text = ""
        self.loss_mask = bytearray()
        self.template_text = ""
        self.pad_sizes: list[tuple[int, int]] = []
        self.patches: list[torch.Tensor] = []
        self.grids: list[Grid] = []
        self.num_frames: list[int] = []
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
        self.pad_sizes += [(grid[1] // MERGE, grid[2] // MERGE)] * grid[0]
        for text in texts:
            self.add_template_text(text)

    def _add_image(self, image: Image, limits: PixelLimits) -> Grid:
        _, height, width = image.pixels.shape
        size = fit_image(height, width, *limits.image)
        return self._add_frames(image.pixels[None], size)

    def _add_video(self, video: Video, limits: PixelLimits) -> tuple[Grid, list[str]]:
        frames, seconds = video.pixels.transpose(0, 1), list(video.seconds)
        height, width = frames.shape[-2:]
        # One frame is shown as a pair.
        size = fit_video(max(len(frames), 2), height, width, *limits.video)
        grid = self._add_frames(frames, size)
        seconds += seconds[-1:] * (2 * grid[0] - len(seconds))
        pairs = zip(seconds[::2], seconds[1::2], strict=True)
        return grid, [FRAME_PAIR.format((first + second) / 2) for first, second in pairs]

    def _add_frames(self, frames: torch.Tensor, size: tuple[int, int]) -> Grid:
        patches, grid = patches_of(frames, size)
        self.patches.append(patches)
        self.grids.append(grid)
        self.num_frames.append(len(frames))
        return grid


def render_chat(chat: Chat, tokenizer: Any, limits: PixelLimits) -> RenderedChat:
    """The dialog by the tokenizer's chat template.

    Raises ValueError for unknown roles, for what the template leaves out or changes, and for shapes the vision tower
    cannot take.
    """
    _check_texts(chat)
    expected = [piece for message in chat.messages for piece in _pieces(message)]
    marked = _templated(chat, tokenizer, is_marked=True)
    if _unmarked(marked) != _templated(chat, tokenizer, is_marked=False):
        raise ValueError("the backbone's chat template changes the texts of the dialog")
    between = PARTS.split(marked)
    pieces = _found(expected, between[1::2])
    rendered = RenderedChat()
    _add_between(rendered, between[0], None, pieces[0] if pieces else None)
    answer: Message | None = None
    for number, (piece, after) in enumerate(zip(pieces, between[2::2], strict=True), start=1):
        message = piece.message
        if message.role == "assistant" and message is not answer:
            answer = message
            _begin_answer(message, rendered)
        if isinstance(piece.part, str):
            rendered.add_text(piece.part, learned=message.role == "assistant")
        else:
            rendered.add_media(piece.part, limits)
        _add_between(rendered, after, piece, pieces[number] if number < len(pieces) else None)
    return rendered


def generation_prompt(tokenizer: Any) -> str:
    """What the tokenizer's chat template puts after a question, and the model answers to."""
    question, prompted = (
        tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False, add_generation_prompt=prompt)
        for prompt in (False, True)
    )
    return str(prompted.removeprefix(question))


@frozen(eq=False)
class _Piece:
    """A text or a medium of a message as it goes through the template.

    part: a text without the white space around it, or a medium. mark: what stands for it in the template's text.
    is_thought: it is a thought of the assistant, which templates leave out of earlier turns. space: after the text.
    """

    message: Message
    part: str | Image | Video
    mark: str
    is_thought: bool = False
    space: str = ""


def _pieces(message: Message) -> Iterator[_Piece]:
    for part in _written(message):
        if isinstance(part, _Piece):
            yield part


def _written(message: Message) -> Iterator[_Piece | str]:
    """The message's pieces, and what is between them: white space, and the tags around an assistant's thoughts.

    Both stay outside the marks, since templates look at them.
    """
    thoughts = _thoughts(message)
    for part in _joined(message.content):
        if not isinstance(part, str):
            yield _Piece(message, part, IMAGE if isinstance(part, Image) else VIDEO)
            continue
        for text in TAGS.split(part) if message.role == "assistant" else [part]:
            if text == THOUGHT_END:
                thoughts -= 1
            if TAGS.fullmatch(text):
                yield text
            else:
                yield from _around(message, text, is_thought=thoughts > 0)


def _joined(content: Sequence[str | Image | Video]) -> Iterator[str | Image | Video]:
    """The content with neighbouring texts in one."""
    for is_text, parts in groupby(content, lambda part: isinstance(part, str)):
        if is_text:
            yield "".join(map(str, parts))
        else:
            yield from parts


def _thoughts(message: Message) -> int:
    """How many thoughts end in an assistant's message."""
    if message.role != "assistant":
        return 0
    return sum(part.count(THOUGHT_END) for part in _joined(message.content) if isinstance(part, str))


def _around(message: Message, text: str, *, is_thought: bool) -> Iterator[_Piece | str]:
    core = text.strip()
    before = text[: len(text) - len(text.lstrip())]
    after = text[len(before) + len(core) :]
    start, end = THOUGHT_MARKS if is_thought else TEXT_MARKS
    yield before
    if core or not is_thought:
        yield _Piece(message, core, f"{start}{core}{end}", is_thought, after)
    yield after


def _found(expected: Sequence[_Piece], marks: Sequence[str]) -> list[_Piece]:
    """The pieces whose marks the template's text has. Raises ValueError when others than thoughts are left out."""
    pieces: list[_Piece] = []
    for piece in expected:
        if len(pieces) < len(marks) and marks[len(pieces)] == piece.mark:
            pieces.append(piece)
        elif not piece.is_thought:
            role = piece.message.role
            raise ValueError(f"the backbone's chat template leaves out or changes part of a message of '{role}'")
    if len(pieces) < len(marks):
        raise ValueError("the backbone's chat template repeats a part of a message")
    return pieces


def _add_between(rendered: RenderedChat, text: str, before: _Piece | None, after: _Piece | None) -> None:
    """Template text between two pieces. An answer is learned from its header's end to the token that ends it."""
    if before is not None and after is not None and before.message is after.message:
        rendered.add_template_text(text, learned=before.message.role == "assistant")
        return
    end = 0
    if before is not None and before.message.role == "assistant":
        close = text.find(END)
        # Calls come between the answer and its end.
        has_end = close >= 0 and not before.message.tool_calls
        end = close + len(END) if has_end else len(before.space) * text.startswith(before.space)
    begin = len(text)
    if after is not None and after.message.role == "assistant" and HEADER in text[end:]:
        begin = text.find("\n", text.rfind(HEADER)) + 1 or len(text)
    rendered.add_template_text(text[:end], learned=True)
    rendered.add_template_text(text[end:begin])
    rendered.add_template_text(text[begin:], learned=True)


def _begin_answer(message: Message, rendered: RenderedChat) -> None:
    texts = [part for part in message.content if isinstance(part, str)]
    if texts:
        rendered.prompt_len = max(0, rendered.text.rfind(HEADER))
        rendered.num_prompt_media = len(rendered.grids)
        rendered.reference = "".join(texts)


def _check_texts(chat: Chat) -> None:
    """Raises ValueError for roles and characters that cannot go through the template."""
    for message in chat.messages:
        if message.role not in ROLES:
            raise ValueError(f"unknown role '{message.role}'")
        if any(mark in part for part in message.content if isinstance(part, str) for mark in MARKS):
            raise ValueError("a text holds one of U+FDD0 to U+FDD3, which are no characters")
    calls = [{"type": "function", "function": asdict(call)} for message in chat.messages for call in message.tool_calls]
    try:
        described = json.dumps([calls, chat.tools], ensure_ascii=False)
    except TypeError as error:  # Such as a date of a table.
        raise ValueError(f"a tool or a call is not JSON ({error})") from None
    for token in (*SPECIAL, *MARKS):
        if token in described:
            raise ValueError(f"a tool or a call holds the token {token}")


def _templated(chat: Chat, tokenizer: Any, *, is_marked: bool) -> str:
    """The text that the template makes of the dialog. is_marked: with marks around texts. Raises ValueError."""
    from jinja2 import TemplateError

    messages = [_for_template(message, is_marked=is_marked) for message in chat.messages]
    try:
        text: str = tokenizer.apply_chat_template(messages, tools=list(chat.tools) or None, tokenize=False)
    except (TemplateError, *FAILURES) as error:
        raise ValueError(f"the backbone's chat template refuses the dialog ({error})") from None
    return text


def _unmarked(text: str) -> str:
    return text.translate(dict.fromkeys(map(ord, MARKS)))


def _for_template(message: Message, *, is_marked: bool) -> dict[str, Any]:
    """A message as chat templates take it."""
    values: dict[str, Any] = {"role": message.role, "content": list(_blocks(message, is_marked=is_marked)) or ""}
    if message.tool_calls:
        values["tool_calls"] = [{"type": "function", "function": asdict(call)} for call in message.tool_calls]
    return values


def _blocks(message: Message, *, is_marked: bool) -> Iterator[dict[str, str]]:
    for part in _written(message) if is_marked else message.content:
        value = part.part if isinstance(part, _Piece) else part
        if isinstance(value, str):
            yield {"type": "text", "text": part.mark if isinstance(part, _Piece) else value}
        else:
            yield {"type": "image" if isinstance(value, Image) else "video"}
