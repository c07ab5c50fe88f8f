"""A dialog as the backbone's chat template writes it, vision in the place where it is shown.

See docs/models/reasoner.md, Chat template.
"""

from __future__ import annotations

import torch

from cosmos_core.data import Chat, Image, Message, Video
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.vision import MERGE, fit_image, fit_video, patches_of

__all__ = ["Grid", "Script", "script_of"]

ROLES = ("system", "user", "assistant")
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
SLICE = "<{:.1f} seconds><|vision_start|><|video_pad|><|vision_end|>"

Grid = tuple[int, int, int]


class Script:
    """Text with one pad for each picture and each slice of a clip.

    learned: for each character, whether the assistant says it. frame: what of the text is the template's. slices: rows
    and columns of tokens that each pad stands for. patches, grids, shown, answer: as in Dialog. asked: characters
    before the assistant's last turn.
    """

    def __init__(self) -> None:
        self.text = ""
        self.learned = bytearray()
        self.frame = ""
        self.slices: list[tuple[int, int]] = []
        self.patches: list[torch.Tensor] = []
        self.grids: list[Grid] = []
        self.asked, self.shown, self.answer = 0, 0, ""

    def say(self, text: str, *, learned: bool) -> None:
        """What one side says."""
        self.text += text
        self.learned += bytes([learned]) * len(text)

    def put(self, text: str, *, learned: bool = False) -> None:
        """What the template puts around it."""
        self.frame += text
        self.say(text, learned=learned)

    def show(self, part: Image | Video, config: VlmConfig) -> None:
        """A picture, or a clip slice by slice, each after its time. Raises ValueError for extreme shapes."""
        if isinstance(part, Image):
            grid, texts = self._picture(part, config), [PICTURE]
        else:
            grid, texts = self._clip(part, config)
        self.grids.append(grid)
        self.slices += [(grid[1] // MERGE, grid[2] // MERGE)] * grid[0]
        for text in texts:
            self.put(text)

    def _picture(self, part: Image, config: VlmConfig) -> Grid:
        _, height, width = part.pixels.shape
        size = fit_image(height, width, config.image_min_pixels, config.image_max_pixels)
        rows, grid = patches_of(part.pixels[None].expand(2, -1, -1, -1), size)
        self.patches.append(rows)
        return grid

    def _clip(self, part: Video, config: VlmConfig) -> tuple[Grid, list[str]]:
        frames, seconds = part.pixels.transpose(0, 1), list(part.seconds)
        if len(frames) == 1:
            frames, seconds = frames.expand(2, -1, -1, -1), seconds * 2
        count, _, height, width = frames.shape
        size = fit_video(count, height, width, config.video_min_pixels, config.video_max_pixels)
        rows, grid = patches_of(frames, size)
        self.patches.append(rows)
        seconds += seconds[-1:] * (2 * grid[0] - len(seconds))
        pairs = zip(seconds[::2], seconds[1::2], strict=True)
        return grid, [SLICE.format((first + second) / 2) for first, second in pairs]


def script_of(chat: Chat, config: VlmConfig) -> Script:
    """Raises ValueError for unknown roles, and for shapes the tower cannot take."""
    script = Script()
    for turn in chat.messages:
        if turn.role not in ROLES:
            raise ValueError(f"unknown role '{turn.role}'")
        _write(turn, script, config)
    return script


def _write(turn: Message, script: Script, config: VlmConfig) -> None:
    learned = turn.role == "assistant"
    if learned:
        script.asked, script.shown = len(script.text), len(script.grids)
        script.answer = "".join(part for part in turn.content if isinstance(part, str))
    script.put(f"<|im_start|>{turn.role}\n")
    for part in turn.content:
        if isinstance(part, str):
            script.say(part, learned=learned)
        else:
            script.show(part, config)
    script.put("<|im_end|>", learned=learned)
    script.put("\n")
