"""What transformers makes of a dialog: the messages its templates take, and the text its processor tokenizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import torch
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from cosmos_core.data import Image, Message, Video

__all__ = ["template_messages", "written_by_transformers"]

FPS = 2


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as `apply_chat_template` takes them."""
    kinds = {Image: "image", Video: "video"}
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": kinds[type(part)]}
                for part in message.content
            ],
            **(
                {"tool_calls": [{"function": asdict(call)} for call in message.tool_calls]}
                if message.tool_calls
                else {}
            ),
        }
        for message in messages
    ]


def written_by_transformers(text: str, messages: Sequence[Message]) -> str:
    """The template's text with a pad for each token of vision, as Qwen3-VL's processor writes them: without the
    wrapper that transformers 5 leaves around a clip. See docs/models/reasoner.md, Chat template."""
    before, *pieces = text.split("<|vision_start|>")
    media = [part for message in messages for part in message.content if not isinstance(part, str)]
    for part, piece in zip(media, pieces, strict=True):
        pads, after = piece.split("<|vision_end|>")
        assert pads == ("<|image_pad|>" if isinstance(part, Image) else "<|video_pad|>")
        rows, columns = part.pixels.shape[-2] // 16, part.pixels.shape[-1] // 16
        if isinstance(part, Image):
            pads = _processor().replace_image_token({"image_grid_thw": torch.tensor([[1, rows, columns]])}, 0)
            before += f"<|vision_start|>{pads}<|vision_end|>" + after
        else:
            shown = SimpleNamespace(fps=FPS, frames_indices=[round(second * FPS) for second in part.seconds])
            grids = torch.tensor([[len(part.seconds) // 2, rows, columns]])
            before += _processor().replace_video_token({"video_grid_thw": grids, "video_metadata": [shown]}, 0) + after
    return before


def _processor() -> Any:
    """What Qwen3-VL's processor needs of itself to write pads, without torchvision."""
    shapes = SimpleNamespace(merge_size=2, temporal_patch_size=2)
    processor = Qwen3VLProcessor.__new__(Qwen3VLProcessor)
    processor.image_processor, processor.video_processor = shapes, shapes
    processor.image_token, processor.video_token = "<|image_pad|>", "<|video_pad|>"
    processor.vision_start_token, processor.vision_end_token = "<|vision_start|>", "<|vision_end|>"
    return processor
