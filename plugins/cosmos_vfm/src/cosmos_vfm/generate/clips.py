"""What is generated: one checked description for each clip. Nothing here needs torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attrs import evolve, frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import is_blank
from cosmos_vfm.config import Sampling
from cosmos_vfm.generate.canvas import ASPECTS, RESOLUTIONS, nearest_frames, parse_size
from cosmos_vfm.generate.defaults import Defaults, defaults_of
from cosmos_vfm.generate.prompt_file import Row
from cosmos_vfm.generate.prompts import Facts, negative_text, prompt_text

__all__ = ["Clip", "Settings", "plan_clips"]

logger = logging.getLogger(__name__)

MAX_SEED = 2**32 - 1
MIN_FPS, MAX_FPS = 0.01, 1000  # A video file has rates to about a thousandth.
MAX_TOKENS = 2**20
"""Latent tokens of a clip; the base models' longest clips have 44,160."""
PIXELS_OF_TOKEN = 32 * 32


@frozen(kw_only=True)
class Settings:
    """What the command line says for all clips; None for what it leaves to the file or to the defaults.

    tells_facts: give prompts duration, frame rate and size; None: as the weights were trained. escape: write structured
    captions in ASCII.
    """

    size: str | None = None
    aspect: str | None = None
    frames: int | None = None
    fps: float | None = None
    seed: int | None = None
    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None
    shift: float | None = None
    interval: tuple[float, float] | None = None
    condition_frames: int | None = None
    keep_last: bool = False
    tells_facts: bool | None = None
    escape: bool = True


@frozen(kw_only=True)
class Clip:
    """One clip to generate. text, negative: as the model gets them.

    condition_frames: latent frames that are given, by a file or a dataset.
    """

    index: int
    prompt: str
    text: str
    negative: str
    mode: str
    width: int
    height: int
    frames: int
    fps: float
    seed: int
    steps: int
    guidance: float
    shift: float
    interval: tuple[float, float] | None = None
    image: Path | None = None
    video: Path | None = None
    condition_frames: int = 0
    keep_last: bool = False

    @property
    def name(self) -> str:
        """Of its files, without ending."""
        return f"clip_{self.index:03d}"

    @property
    def suffix(self) -> str:
        """Ending of its files."""
        return ".png" if self.frames == 1 else ".mp4"


def plan_clips(
    rows: Sequence[Row],
    settings: Settings,
    *,
    tier: str,
    sampling: Sampling,
    recorded: Mapping[str, Any] = MappingProxyType({}),
) -> list[Clip]:
    """One clip a row. tier, sampling, recorded: of the model, as in `defaults_of`.

    A length that the video tokenizer does not take is rounded up; the log says so, and which prompts are empty. Raises
    UserError with every problem of every row.
    """
    clips, problems = [], list(_settings_problems(rows, settings))
    for index, row in enumerate(rows):
        frames = settings.frames if settings.frames is not None else row.frames
        image = frames == 1 and row.image is None and row.video is None
        clip, wrong = _clip(index, row, settings, defaults_of(tier, sampling, image=image, recorded=recorded))
        clips.append(clip)
        problems += wrong
    if problems:
        raise UserError("these clips cannot be generated; nothing was started", list(dict.fromkeys(problems)))
    if empty := [clip.name for clip in clips if is_blank(clip.prompt)]:
        logger.warning("%s: the prompt is empty, so the model chooses what to show", ", ".join(empty))
    return clips


def _settings_problems(rows: Sequence[Row], settings: Settings) -> Iterator[Problem]:
    """What is wrong with options, whatever the rows say."""
    for key, value in (("--guidance", settings.guidance), ("--shift", settings.shift)):
        if value is not None and not isfinite(value):
            yield Problem(message=f"is {value}, which is no finite number", key=key)
    if settings.interval is not None and not 0 <= settings.interval[0] < settings.interval[1] <= 1000:
        message = f"is {settings.interval[0]} {settings.interval[1]}"
        hint = "give two timesteps from 0 to 1000, the lower one first"
        yield Problem(message=message, key="--guidance-interval", hint=hint)
    if not any(row.video for row in rows):
        unused = {"--condition-frames": settings.condition_frames is not None, "--keep-last": settings.keep_last}
        for key in (name for name, given in unused.items() if given):
            yield Problem(message="is about --video, and there is none", key=key)
    if settings.aspect is not None and settings.size is not None and settings.size not in RESOLUTIONS:
        hint = f"leave it out, or give one of {', '.join(RESOLUTIONS)} as --size"
        yield Problem(message=f"is {settings.aspect}, and --size says width and height", key="--aspect", hint=hint)


def _rounded(frames: int, row: Row) -> int:
    """The next number of frames that the video tokenizer takes."""
    if frames < 1 or frames in nearest_frames(frames):
        return frames
    below, above = nearest_frames(frames)
    where = f"{row.file}:{row.line}: " if row.file else ""
    text = "%s%d frames do not fit the video tokenizer, which takes 1 and then groups of 4: %d are made (%d fit too)"
    logger.warning(text, where, frames, above, below)
    return above


def _clip(index: int, row: Row, settings: Settings, defaults: Defaults) -> tuple[Clip, list[Problem]]:
    requested = settings.frames if settings.frames is not None else row.frames
    frames = _rounded(defaults.frames if requested is None else requested, row)
    fps = settings.fps if settings.fps is not None else defaults.fps if row.fps is None else row.fps
    width, height, problems = _size(row, settings, defaults)
    of_video = 2 if settings.condition_frames is None else settings.condition_frames
    condition_frames = 1 if row.image is not None else of_video if row.video is not None else 0
    seed = settings.seed + index if settings.seed is not None else row.seed if row.seed is not None else index
    problems += _problems(row, frames, fps, condition_frames)
    problems += _size_problems(row, frames, width, height)
    if not 0 <= seed <= MAX_SEED:
        problems.append(row.problem(f"is {seed} for clip {index}; it goes from 0 to {MAX_SEED}", "seed"))
    tells = settings.tells_facts
    duration, size = (defaults.tells_duration, defaults.tells_size) if tells is None else (tells, tells)
    facts = Facts(frames, height, width, fps, duration, size)
    negative = settings.negative if settings.negative is not None else row.negative_prompt
    negative = defaults.negative if negative is None else negative
    mode = "image2video" if row.image else "video2video" if row.video else "text2image" if frames == 1 else "text2video"
    clip = Clip(
        index=index,
        prompt=row.prompt,
        text=prompt_text(row.prompt, facts, escape=settings.escape) if not problems else row.prompt,
        negative=negative_text(negative, facts) if not problems else negative,
        mode=mode,
        width=width,
        height=height,
        frames=frames,
        fps=fps,
        seed=seed,
        steps=settings.steps or defaults.steps,
        guidance=defaults.guidance if settings.guidance is None else settings.guidance,
        shift=settings.shift or defaults.shift,
        interval=settings.interval,
        image=row.image,
        video=row.video,
        condition_frames=condition_frames,
        keep_last=settings.keep_last,
    )
    return clip, problems


def _size(row: Row, settings: Settings, defaults: Defaults) -> tuple[int, int, list[Problem]]:
    text = settings.size or row.size or defaults.size
    aspect = (settings.aspect or defaults.aspect).replace(":", ",")
    try:
        return *parse_size(text, aspect if aspect in ASPECTS else defaults.aspect), []
    except ValueError as error:
        where = evolve(row, file="", line=None) if settings.size else row
        return 0, 0, [where.problem(str(error), "size")]


def _size_problems(row: Row, frames: int, width: int, height: int) -> Iterator[Problem]:
    """A clip so large that no device holds it: the machine would be out of memory before it says so."""
    tokens = (1 + frames // 4) * width * height // PIXELS_OF_TOKEN
    if tokens > MAX_TOKENS:
        message = f"is {frames}, which makes {tokens:,} latent tokens at {width}x{height}"
        hint = f"take fewer, or a smaller size: at most {MAX_TOKENS:,} tokens"
        yield row.problem(message, "frames", hint)


def _problems(row: Row, frames: int, fps: float, condition_frames: int) -> list[Problem]:
    problems = []
    if frames < 1:
        problems.append(row.problem(f"is {frames}, and a clip has at least 1", "frames"))
    elif condition_frames and frames <= 1 + 4 * (condition_frames - 1):
        message = f"is {frames}, and the given {'image' if row.image else 'video'} is as long already"
        problems.append(row.problem(message, "frames", f"take at least {1 + 4 * condition_frames}"))
    if not MIN_FPS <= fps <= MAX_FPS:
        message = f"is {fps}, which is no frame rate"
        problems.append(row.problem(message, "fps", f"take a number from {MIN_FPS} to {MAX_FPS}"))
    if row.image is not None and row.video is not None:
        problems.append(row.problem("is given beside an image; a clip continues one of them", "video"))
    for key, path in (("image", row.image), ("video", row.video)):
        if path is not None and not path.is_file():
            problems.append(row.problem(f"no such file: {path}", key))
    return problems
