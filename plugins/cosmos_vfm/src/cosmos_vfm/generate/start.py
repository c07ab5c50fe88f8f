"""From the command line to files: checks everything, generates, writes the page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve

from cosmos_core.config.env import output_root
from cosmos_core.data import UnreadableSample, VideoText
from cosmos_core.errors import Problem, UserError, make_folder
from cosmos_core.names import counted
from cosmos_core.plan.directory_lock import directory_lock
from cosmos_core.plugin import PluginManager
from cosmos_core.seeds import stream_seed
from cosmos_core.train.build import open_dataset
from cosmos_vfm.generate.adapters import parse_adapter, tell_other_base
from cosmos_vfm.generate.clips import Clip, Settings, plan_clips
from cosmos_vfm.generate.job import ConfiguredSource, Job, configure_sources, default_output
from cosmos_vfm.generate.media import check_media
from cosmos_vfm.generate.model import complete
from cosmos_vfm.generate.outputs import RESULTS, Result, finished, write_clip, write_overview
from cosmos_vfm.generate.prompt_file import Row
from cosmos_vfm.generate.run import generate_all
from cosmos_vfm.tokenizer import build_text_tokenizer
from cosmos_vfm.tokenizer.video import TEMPORAL

__all__ = ["start"]

logger = logging.getLogger(__name__)


def start(
    job: Job, rows: Sequence[Row], settings: Settings, *, validation: int, output: Path | None, plugins: PluginManager
) -> tuple[Path, list[Result]]:
    """Generate a clip for each row, or for the first `validation` samples of the validation data.

    output: a new or empty folder, or that of the same command when it was interrupted; None chooses one. Returns the
    folder and the results in order. Raises UserError before anything is loaded or written, if something can be known to
    be wrong by then.
    """
    sources = [
        complete(configured, plugins, precision=job.precision, on_cuda=torch.cuda.is_available())
        for configured in configure_sources(job, plugins)
    ]
    first = sources[0]
    settings = evolve(settings, escape=not first.fine_tuned)
    items = _validation_items(first, validation, plugins) if validation else []
    rows = [_row_of(item) for item in items] if validation else rows
    clips = plan_clips(rows, settings, tier=first.model.tier, sampling=first.model.sampling, recorded=first.generation)
    clips = [_as_data_has_it(clip, item) for clip, item in zip(clips, items, strict=True)] if validation else clips
    _check_ranks(job, sources, len(clips))
    for adapter in job.adapters:
        tell_other_base(parse_adapter(adapter), first.source)
    check_media(clips)
    _check_lengths(job, sources, clips)
    folder = output if output is not None else default_output(first.source, job.source, output_root())
    make_folder(folder, "nothing was started")
    conditions: dict[int, Any] = {clip.index: _first_frames(item) for clip, item in zip(clips, items, strict=False)}
    conditions = {index: frames for index, frames in conditions.items() if frames is not None}
    ready = evolve(job, sources=tuple(sources), clips=tuple(clips), conditions=conditions, output=folder)
    with directory_lock(folder.resolve()):
        return folder, _fill(ready, items, plugins)


def _fill(job: Job, items: Sequence[VideoText], plugins: PluginManager) -> list[Result]:
    """Make the clips that are not there, and the page of all. items: the samples that prompts were taken from."""
    done = finished(job.output, job.planned)
    try:
        generate_all(evolve(job, done=frozenset(done)), plugins)
    except BaseException:
        if (job.output / RESULTS).stat().st_size:
            kept = len(_overview(job, items))
            text = "%d of %d clips are finished; the same command with -o %s makes the others"
            logger.warning(text, kept, len(job.planned), job.output)
        raise
    return _overview(job, items)


def _overview(job: Job, items: Sequence[VideoText]) -> list[Result]:
    """The results, after writing the page of them. items: as in `_fill`."""
    truths = {}
    for clip, item in zip(job.clips, items, strict=False):
        truths[clip.index] = write_clip(job.output, f"{clip.name}_data", item.pixels(), clip.fps)
    return write_overview(job.output, job.clips, [configured.label for configured in job.sources], truths)


def _check_ranks(job: Job, sources: Sequence[ConfiguredSource], clips: int) -> None:
    heads = {configured.model.network.heads for configured in sources}
    if job.one_clip and any(count % job.nproc for count in heads):
        fitting = [str(n) for n in range(2, max(heads) + 1) if not any(count % n for count in heads)]
        message = f"is {job.nproc}, which does not divide the {max(heads)} heads of the model"
        problem = Problem(message=message, key="--nproc", hint=f"take {', '.join(fitting)}, or leave --one-clip out")
        raise UserError("a clip cannot be divided among so many processes", [problem])
    if not job.one_clip and job.nproc > max(clips, 1):
        hint = "lower it, or pass --one-clip, which divides each clip"
        problem = Problem(message=f"is {job.nproc}, more than the clips ({clips})", key="--nproc", hint=hint)
        raise UserError("some processes would have nothing to do", [problem])


def _check_lengths(job: Job, sources: Sequence[ConfiguredSource], clips: Sequence[Clip]) -> None:
    """Raises UserError for prompts that the limit would cut: a cut structured caption is no caption."""
    problems = []
    for configured in sources:
        tokenizer = build_text_tokenizer(configured.model.text_tokenizer, configured.model.network)
        for clip in clips:
            for name, text in (("prompt", clip.text), ("negative prompt", clip.negative if clip.guidance != 1 else "")):
                count = len(tokenizer.encoder.chat_ids(text))
                if count > job.limit:
                    message = f"the {name} of clip {clip.index} has {count} tokens, the limit is {job.limit}: "
                    hint = f"shorten it, or pass --max-prompt-tokens {count}"
                    problems.append(Problem(message=message + repr(text[:60]), key="--max-prompt-tokens", hint=hint))
    if problems:
        raise UserError("a prompt is too long; nothing was started", list(dict.fromkeys(problems)))


def _validation_items(configured: ConfiguredSource, count: int, plugins: PluginManager) -> list[VideoText]:
    """The first readable samples of the validation data, drawn as previews of a run draw them."""
    section = configured.config.dataloader_val
    if section is None:
        hint = "name a recipe with validation data (--recipe), or give prompts"
        problem = Problem(message="is not set", key="dataloader_val", hint=hint)
        raise UserError("there is no validation data to take prompts from", [problem])
    source = open_dataset(section, plugins, "dataloader_val")
    items: list[VideoText] = []
    for index in range(len(source)):
        if len(items) == count:
            break
        try:
            items.append(source.get(index, np.random.default_rng(stream_seed(0, "draw", index))))
        except UnreadableSample:
            continue
    if not items:
        raise UserError("the validation data holds no readable sample")
    if len(items) < count:
        readable = counted(len(items), "readable sample")
        logger.warning("the validation data has only %s, not %d; so many clips are made", readable, count)
    return items


def _row_of(item: VideoText) -> Row:
    _, frames, height, width = item.video.shape
    return Row(prompt=item.caption, size=f"{width}x{height}", frames=frames, fps=item.fps)


def _as_data_has_it(clip: Clip, item: VideoText) -> Clip:
    """With the caption as in training, and the sample's own first frames."""
    mode = ("text2video", "image2video", "video2video")[min(item.condition_frames, 2)]
    return evolve(
        clip,
        text=item.caption,
        mode=clip.mode if not item.condition_frames else mode,
        condition_frames=item.condition_frames,
    )


def _first_frames(item: VideoText) -> Any:
    return item.pixels()[:, : 1 + TEMPORAL * (item.condition_frames - 1)] if item.condition_frames else None
