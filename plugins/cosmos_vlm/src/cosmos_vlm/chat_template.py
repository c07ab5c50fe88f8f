"""A dialog as the text of the backbone's chat template, with its images and videos as patches.

See docs/models/reasoner.md, Chat template.
"""

from __future__ import annotations

import torch

from cosmos_core.data import Chat, Image, Message, Video
from cosmos_vlm.processor_files import PixelLimits
from cosmos_vlm.vision import MERGE, fit_image, fit_video, patches_of

__all__ = ["Grid", "RenderedChat", "render_chat"]

ROLES = ("system", "user", "assistant")
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
FRAME_PAIR = "<{:.1f} seconds><|vision_start|><|video_pad|><|vision_end|>"

Grid = tuple[int, int, int]


class RenderedChat:
    """Text with one pad for each image and each frame pair of a video.

    loss_mask: for each character, whether it is learned. template_text: all that the template added. pad_sizes: rows
    and columns of tokens that each pad stands for. prompt_len: characters before the assistant's last message.
    patches, grids, num_prompt_media, reference: as in TokenizedConversation.
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


def render_chat(chat: Chat, limits: PixelLimits) -> RenderedChat:
    """Raises ValueError for unknown roles, and for shapes the vision tower cannot take."""
    rendered = RenderedChat()
    for message in chat.messages:
        if message.role not in ROLES:
            raise ValueError(f"unknown role '{message.role}'")
        _render(message, rendered, limits)
    return rendered


def _render(message: Message, rendered: RenderedChat, limits: PixelLimits) -> None:
    learned = message.role == "assistant"
    if learned:
        rendered.prompt_len, rendered.num_prompt_media = len(rendered.text), len(rendered.grids)
        rendered.reference = "".join(part for part in message.content if isinstance(part, str))
    rendered.add_template_text(f"<|im_start|>{message.role}\n")
    for part in message.content:
        if isinstance(part, str):
            rendered.add_text(part, learned=learned)
        else:
            rendered.add_media(part, limits)
    rendered.add_template_text("<|im_end|>", learned=learned)
    rendered.add_template_text("\n")
