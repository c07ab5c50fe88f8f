"""What a run draws: samples of its data, or prompts of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from attrs import evolve, frozen

from cosmos_core.data import MapSource, UnreadableSample, VideoText
from cosmos_core.errors import UserError
from cosmos_core.seeds import stream_seed
from cosmos_vfm.config import DrawSamples, VfmConfig
from cosmos_vfm.generate.clips import Clip, Settings, plan_clips
from cosmos_vfm.generate.media import condition_of
from cosmos_vfm.generate.prompt_file import Row, read_prompts
from cosmos_vfm.sampling import SampleRequest
from cosmos_vfm.tokenizer.video import TEMPORAL

__all__ = ["Preview", "of_data", "of_prompts", "truths"]


@frozen(eq=False)
class Preview:
    """One row of the page. caption: as a person wrote it. seed: None for one after the other. item: of the data."""

    caption: str
    request: SampleRequest
    seed: int | None = None
    item: VideoText | None = None


def of_data(source: MapSource, count: int) -> list[Preview]:
    """The first readable samples."""
    previews: list[Preview] = []
    for index in range(len(source)):
        if len(previews) == count:
            break
        with suppress(UnreadableSample):
            previews.append(_of_item(source.get(index, np.random.default_rng(stream_seed(0, "draw", index)))))
    return previews


def of_prompts(config: DrawSamples, model: VfmConfig, source: MapSource) -> list[Preview]:
    """Prompts of the recipe and of its file; size, length and rate are those of the data where they say none.

    Raises UserError for a file that cannot be read, or a clip that cannot be made.
    """
    rows = [Row(prompt=prompt) for prompt in config.prompts]
    rows += read_prompts(Path(config.prompts_file)) if config.prompts_file is not None else []
    samples = of_data(source, 1)
    if samples:
        rows = [_like(row, samples[0].request) for row in rows]
    try:
        clips = plan_clips(rows, Settings(negative="", escape=False), tier=model.tier, sampling=model.sampling)
    except UserError as error:
        raise UserError("these previews cannot be drawn; nothing was started", error.problems) from None
    return [Preview(clip.prompt, _request(clip), row.seed) for clip, row in zip(clips, rows, strict=True)]


def _like(row: Row, sample: SampleRequest) -> Row:
    size = row.size or f"{sample.width}x{sample.height}"
    return evolve(row, size=size, frames=row.frames or sample.frames, fps=row.fps or sample.fps)


def _of_item(item: VideoText) -> Preview:
    _, frames, height, width = item.video.shape
    return Preview(
        item.caption, SampleRequest(item.caption, frames, height, width, item.fps, _condition(item)), item=item
    )


def _condition(item: VideoText) -> torch.Tensor | None:
    """First frames of the clip that training would condition on: 1 for image to video, more for video to video."""
    if not item.condition_frames:
        return None
    return item.pixels()[:, : 1 + TEMPORAL * (item.condition_frames - 1)]


def _request(clip: Clip) -> SampleRequest:
    return SampleRequest(
        clip.text, clip.frames, clip.height, clip.width, clip.fps, condition_of(clip), negative=clip.negative
    )


def truths(previews: Sequence[Preview]) -> list[torch.Tensor]:
    """The clips of the data; empty when the previews are prompts."""
    return [preview.item.pixels() for preview in previews if preview.item is not None]
