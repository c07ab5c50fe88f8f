"""What is generated: one checked description for each clip. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen

from cosmos_core.errors import Problem, UserError
from cosmos_vfm.config import Sampling
from cosmos_vfm.generate.canvas import ASPECTS, nearest_frames, parse_size
from cosmos_vfm.generate.defaults import Defaults, defaults_of
from cosmos_vfm.generate.prompt_file import Row
from cosmos_vfm.generate.prompts import Facts, negative_text, prompt_text

__all__ = ["Clip", "Settings", "plan_clips"]


@frozen(kw_only=True)
class Settings:
    """What the command line says for all clips; None for what it leaves to the file or to the defaults.

    tells_facts: give prompts duration, frame rate and size. escape: write structured captions in ASCII.
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
    condition_frames: int = 2
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


def plan_clips(rows: Sequence[Row], settings: Settings, *, tier: str, sampling: Sampling) -> list[Clip]:
    """One clip a row. tier, sampling: of the model. Raises UserError with every problem of every row."""
    clips, problems = [], []
    for index, row in enumerate(rows):
        clip, wrong = _clip(index, row, settings, tier, sampling)
        clips.append(clip)
        problems += wrong
    if problems:
        raise UserError("these clips cannot be generated; nothing was started", list(dict.fromkeys(problems)))
    return clips


def _clip(index: int, row: Row, settings: Settings, tier: str, sampling: Sampling) -> tuple[Clip, list[Problem]]:
    asked_frames = settings.frames if settings.frames is not None else row.frames
    given = row.image or row.video
    defaults = defaults_of(tier, sampling, image=asked_frames == 1 and given is None)
    frames = defaults.frames if asked_frames is None else asked_frames
    fps = settings.fps or row.fps or defaults.fps
    width, height, problems = _size(row, settings, defaults)
    condition_frames = 1 if row.image is not None else settings.condition_frames if row.video is not None else 0
    problems += _problems(row, frames, fps, condition_frames)
    facts = Facts(frames, height, width, fps)
    negative = settings.negative if settings.negative is not None else row.negative_prompt
    negative = defaults.negative if negative is None else negative
    tells = defaults.tells_facts if settings.tells_facts is None else settings.tells_facts
    tells = tells and not problems
    mode = "image2video" if row.image else "video2video" if row.video else "text2image" if frames == 1 else "text2video"
    clip = Clip(
        index=index,
        prompt=row.prompt,
        text=prompt_text(row.prompt, facts, escape=settings.escape) if tells else row.prompt,
        negative=negative_text(negative, facts) if tells else negative,
        mode=mode,
        width=width,
        height=height,
        frames=frames,
        fps=fps,
        seed=settings.seed + index if settings.seed is not None else row.seed if row.seed is not None else index,
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


def _problems(row: Row, frames: int, fps: float, condition_frames: int) -> list[Problem]:
    problems = []
    if frames < 1 or frames not in nearest_frames(frames):
        nearest = " or ".join(map(str, nearest_frames(max(frames, 1))))
        message = f"is {frames}, but the video tokenizer takes 1 frame, then groups of 4"
        problems.append(row.problem(message, "frames", f"take {nearest}"))
    elif condition_frames and frames <= 1 + 4 * (condition_frames - 1):
        message = f"is {frames}, and the given {'image' if row.image else 'video'} is as long already"
        problems.append(row.problem(message, "frames", f"take at least {1 + 4 * condition_frames}"))
    if not 0 < fps < float("inf"):
        problems.append(row.problem(f"is {fps}, which is no frame rate", "fps"))
    if row.image is not None and row.video is not None:
        problems.append(row.problem("is given beside an image; a clip continues one of them", "video"))
    for key, path in (("image", row.image), ("video", row.video)):
        if path is not None and not path.is_file():
            problems.append(row.problem(f"no such file: {path}", key))
    return problems
