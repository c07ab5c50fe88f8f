"""Answers to dialogs: transformers' `generate` on a batch, padded on the left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, TextStreamer

from cosmos_vlm.chat.model import ChatModel
from cosmos_vlm.chat.settings import Settings
from cosmos_vlm.chat_processor import PADS, TokenizedPrompt
from cosmos_vlm.vision import frame_pairs, tower_patches

__all__ = ["answers", "stream"]

END = "<|im_end|>"
MEDIA = {False: ("pixel_values", "image_grid_thw"), True: ("pixel_values_videos", "video_grid_thw")}
"""Whether a medium is a video -> arguments of transformers' model."""

Write = Callable[[str], object]
"""Takes each piece of an answer as soon as it is complete text."""


class _PresencePenalty(LogitsProcessor):  # type: ignore[misc]
    """Subtracts a penalty once from every token that the answer has already."""

    def __init__(self, penalty: float, prompt_len: int) -> None:
        self.penalty, self.prompt_len = penalty, prompt_len

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        answered = torch.zeros_like(scores).scatter(1, input_ids[:, self.prompt_len :], 1.0)
        return scores - self.penalty * answered


class _Pieces(TextStreamer):  # type: ignore[misc]
    def __init__(self, tokenizer: Any, write: Write) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._write = write

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._write(text)


def answers(model: ChatModel, prompts: Sequence[TokenizedPrompt], settings: Settings) -> list[str]:
    """The assistant's next message to each prompt, all decoded together."""
    return _generate(model, prompts, settings, None)


def stream(model: ChatModel, prompt: TokenizedPrompt, settings: Settings, write: Write) -> str:
    """The same for one prompt, written while it is decoded."""
    return _generate(model, [prompt], settings, write)[0]


@torch.inference_mode()
def _generate(
    model: ChatModel, prompts: Sequence[TokenizedPrompt], settings: Settings, write: Write | None
) -> list[str]:
    tokenizer = model.processor.tokenizer
    inputs = _inputs(prompts, model)
    prompt_len = inputs["input_ids"].shape[1]
    penalties = LogitsProcessorList()
    if settings.presence_penalty:
        penalties.append(_PresencePenalty(settings.presence_penalty, prompt_len))
    output = model.model.generate(
        **inputs,
        generation_config=_config(settings, tokenizer),
        logits_processor=penalties,
        streamer=_Pieces(tokenizer, write) if write is not None else None,
    )
    texts: list[str] = tokenizer.batch_decode(output[:, prompt_len:], skip_special_tokens=True)
    return texts


def _config(settings: Settings, tokenizer: Any) -> GenerationConfig:
    samples = settings.temperature > 0
    random = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": settings.top_k} if samples else {}
    return GenerationConfig(
        max_new_tokens=settings.max_tokens,
        do_sample=samples,
        repetition_penalty=settings.repetition_penalty,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=_filler(tokenizer),
        **random,
    )


def _inputs(prompts: Sequence[TokenizedPrompt], model: ChatModel) -> dict[str, torch.Tensor]:
    """Keyword arguments of transformers' model: ids [n, longest], masks, media type of every token, patches, grids."""
    longest = max(len(prompt.ids) for prompt in prompts)
    filler = _filler(model.processor.tokenizer)
    image, video = (model.processor.special[name] for name in PADS)
    ids = torch.stack([pad(prompt.ids, (longest - len(prompt.ids), 0), value=filler) for prompt in prompts])
    lengths = torch.tensor([len(prompt.ids) for prompt in prompts])
    mask = (torch.arange(longest) >= longest - lengths[:, None]).long()
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": ((ids == image).int() + 2 * (ids == video).int()) * mask.int(),
    }
    for is_video, (pixels, grids) in MEDIA.items():
        media = [part for prompt in prompts for part in prompt.media if part.is_video == is_video]
        if media:
            shapes, num_frames = zip(*((part.grid, part.num_frames) for part in media), strict=True)
            patches = torch.cat([part.patches for part in media])
            inputs[pixels] = tower_patches(patches, frame_pairs(shapes, num_frames), model.model.dtype)
            inputs[grids] = torch.tensor(shapes)
    return {name: value.to(model.device) for name, value in inputs.items()}


def _filler(tokenizer: Any) -> int:
    """The id that fills short prompts and finished answers."""
    padding: int | None = tokenizer.pad_token_id
    end: int = tokenizer.convert_tokens_to_ids(END)
    return end if padding is None else padding
