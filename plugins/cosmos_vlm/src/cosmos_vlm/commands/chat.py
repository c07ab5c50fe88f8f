"""`cosmos chat`: talk with a reasoner, or have a file of prompts answered."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.plan import locate_source
from cosmos_core.plugin import CheckpointSpec, PluginManager

if TYPE_CHECKING:
    import torch

    from cosmos_vlm.chat.model import ChatModel
    from cosmos_vlm.chat.settings import Settings

__all__ = ["chat"]

SAMPLING = ("top_p", "top_k")
"""Options without effect on greedy decoding."""


def _sources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Published names that begin so; any folder when none does."""
    plugins: PluginManager = ctx.obj
    names = [spec.name for spec in plugins.registry.all(CheckpointSpec) if spec.name.startswith(incomplete)]
    return [CompletionItem(name) for name in names if incomplete] or [CompletionItem(incomplete, type="dir")]


@click.command("chat")
@click.argument("source", shell_complete=_sources)
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="Shown with the first message.")
@click.option("--video", "videos", multiple=True, type=click.Path(path_type=Path), help="Shown with the first message.")
@click.option("--prompt", help="Print one answer and end.")
@click.option("--input", "file", type=click.Path(path_type=Path, dir_okay=False), help="JSONL of prompts; with -o.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="JSONL file of answers.")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Prompts answered together.")
@click.option("--adapter", "adapters", multiple=True, metavar="DIR[@SCALE]", help="Exported adapters to add to SOURCE.")
@click.option(
    "--compare",
    multiple=True,
    metavar="SOURCE",
    shell_complete=_sources,
    help="Answers of these too, without the adapters.",
)
@click.option("--step", type=click.IntRange(min=0), help="Which checkpoint of a run; default: the latest.")
@click.option(
    "--preset",
    type=click.Choice(["greedy", "guide", "reasoning"]),
    default="greedy",
    show_default=True,
    help="Settings to start from: the likeliest tokens, or what the models' owners advise.",
)
@click.option("--reasoning/--no-reasoning", default=None, help="Ask the model to reason first.")
@click.option("--temperature", type=click.FloatRange(min=0), help="0: greedy.  [greedy 0, guide 0.7, reasoning 0.6]")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="[guide 0.8, reasoning 0.95]")
@click.option("--top-k", type=click.IntRange(min=0), help="0: all.  [guide and reasoning 20]")
@click.option("--repetition-penalty", type=click.FloatRange(min=0, min_open=True), help="Factor.  [1]")
@click.option("--presence-penalty", type=float, help="Subtracted once a token.  [guide 1.5, else 0]")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Of an answer.  [greedy 1024, else 4096]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of sampling.  [0]")
@click.option("--fps", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Frames of a video shown.")
@click.option("--max-frames", type=click.IntRange(min=2), default=32, show_default=True, help="Most frames of a video.")
@click.option("--device", help="Such as cpu or cuda:1; default: the accelerator, if there is one.")
@click.pass_obj
def chat(
    plugins: PluginManager,
    /,
    source: str,
    images: tuple[Path, ...],
    videos: tuple[Path, ...],
    prompt: str | None,
    file: Path | None,
    output: Path | None,
    adapters: tuple[str, ...],
    compare: tuple[str, ...],
    step: int | None,
    preset: str,
    device: str | None,
    fps: float,
    max_frames: int,
    batch: int,
    **sampling: Any,
) -> None:
    """Talk with the reasoner SOURCE about images and videos.

    SOURCE is a run or its name, one of its checkpoints, an export, or a published folder or name. Without --prompt or
    --input it is a conversation; /help lists its commands.

    \b
    A line of --input is one of:
      {"prompt": "What happens?", "video": "clip.mp4"}    also image, images, videos, system, id
      a dialog as in training data; its last answer is kept as `reference`
    Files are looked up beside the input. Run it again to answer what -o lacks.

    \b
    Examples:
      cosmos chat outputs/train/cosmos3/vlm_llava_ov_demo/pre_exp012_llava_ov --image photo.jpg
      cosmos chat my_export --video clip.mp4 --prompt "What happens here?" --preset reasoning
      cosmos chat RUN --input prompts.jsonl -o answers.jsonl --compare Cosmos3-Nano-Reasoner
    """
    from cosmos_vlm.chat.conversation import Clips, Conversation, open_media
    from cosmos_vlm.chat.rows import Job, answer_rows, read_rows
    from cosmos_vlm.chat.session import answer_once, talk

    _check_uses(prompt, file, output, with_media=bool(images or videos))
    _check_finite({**sampling, "fps": fps})
    settings, clips = _settings(preset, sampling), Clips(fps, max_frames)
    rows = read_rows(file) if file is not None else []
    media = [open_media(path, "image", clips) for path in images]
    media_of_prompt = [*media, *(open_media(path, "video", clips) for path in videos)]
    models = _models(plugins, (source, *compare), adapters, step, device)
    _seed(settings.seed)
    if file is not None and output is not None:
        job = Job(source=file, output=output, models=models, settings=settings, clips=clips, batch=batch)
        click.echo(f"answered {answer_rows(job, rows)} of {len(rows)} prompts: {output}", err=True)
        return
    conversations = [Conversation(model, settings) for model in models]
    if prompt is not None:
        answer_once(conversations, prompt, media_of_prompt)
    else:
        talk(conversations, media_of_prompt, clips)


def _check_uses(prompt: str | None, file: Path | None, output: Path | None, *, with_media: bool) -> None:
    """Raises UserError for options that do not go together."""
    if (file is None) != (output is None):
        raise UserError("--input and -o go together: prompts are read from one, answers written to the other")
    if file is not None and (prompt is not None or with_media):
        raise UserError("--input has the prompts and names their images and videos; leave the other options out")
    if prompt is not None and not prompt.strip():
        raise UserError("--prompt is empty")


def _check_finite(values: dict[str, Any]) -> None:
    """Raises UserError for numbers that are none, which every bound lets through."""
    numbers = [(f"--{name.replace('_', '-')}", value) for name, value in values.items() if isinstance(value, float)]
    problems = [
        Problem(message=f"is {value}, which is no finite number", key=name)
        for name, value in numbers
        if not isfinite(value)
    ]
    if problems:
        raise UserError("a setting cannot be used", problems)


def _settings(preset: str, sampling: dict[str, Any]) -> Settings:
    """The preset with what the command line says. Raises UserError for options without effect."""
    from attrs import evolve

    from cosmos_vlm.chat.settings import PRESETS

    given = {name: value for name, value in sampling.items() if value is not None}
    settings = evolve(PRESETS[preset], **given)
    unused = [f"--{name.replace('_', '-')}" for name in SAMPLING if name in given and not settings.temperature]
    if unused:
        message = f"{' and '.join(unused)} has no effect at temperature 0, which always takes the likeliest token"
        raise UserError("a setting has no effect", [Problem(message=message, hint="give --temperature too")])
    return settings


def _models(
    plugins: PluginManager, names: tuple[str, ...], adapters: tuple[str, ...], step: int | None, device: str | None
) -> list[ChatModel]:
    """The model of every source, the first with the adapters. Raises UserError."""
    import torch

    from cosmos_vlm.chat.adapter import read_adapter
    from cosmos_vlm.chat.model import load_chat_model

    if len(set(names)) < len(names):
        raise UserError("--compare names the same source twice")
    place = _device(device) if device else torch.accelerator.current_accelerator() or torch.device("cpu")
    read = [read_adapter(text) for text in adapters]
    first, *others = names
    sources = [locate_source(first, plugins, step=step), *(locate_source(name, plugins) for name in others)]
    return [
        load_chat_model(name, source, read if source is sources[0] else [], place, plugins=plugins)
        for name, source in zip(names, sources, strict=True)
    ]


def _device(name: str) -> torch.device:
    """Raises UserError for a device that this machine, or this torch, does not have."""
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        problem = Problem(message=first_line(error), key="--device", hint="such as cpu, cuda or cuda:1")
        raise UserError(f"there is no device '{name}'", [problem]) from None
    return device


def _seed(seed: int) -> None:
    import torch

    torch.manual_seed(seed)
