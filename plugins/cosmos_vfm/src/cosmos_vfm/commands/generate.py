"""`cosmos generate`: clips and pictures from prompts, with any weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.text_files import read_text

__all__ = ["generate"]

ASPECTS = ("16:9", "9:16", "4:3", "3:4", "1:1")
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
POSITIVE = click.IntRange(min=1)


@click.command("generate")
@click.argument("source", type=click.Path())  # Which shells complete.
@click.argument("overrides", nargs=-1)
@click.option("-p", "--prompt", "texts", multiple=True, help="What to show; may be given several times.")
@click.option("--prompts", type=FILE, help="File with one prompt a line: .txt, .jsonl or .csv.")
@click.option("--validation", type=POSITIVE, help="Prompts of the first so many samples of the validation data.")
@click.option("--image", type=FILE, help="First frame of the clip: image to video.")
@click.option("--video", type=FILE, help="The clip continues this one: video to video.")
@click.option("-o", "--output", type=FOLDER, help="New folder for the files; default: generated/NUMBER of the run.")
@click.option("--compare", multiple=True, help="Another source for the same prompts and noise; may be repeated.")
@click.option("--adapter", "adapters", multiple=True, metavar="DIR[@0.7]", help="Exported adapter, and its strength.")
@click.option("--weights", type=click.Choice(["ema", "live", "fresh"]), default="ema", show_default=True,
              help="Of a run: its average if there is one, the weights themselves, or its start.")  # fmt: skip
@click.option("--step", type=click.IntRange(min=0), help="Which checkpoint of a run; default: the latest.")
@click.option("--recipe", help="Recipe with settings for a SOURCE that no run recorded them for.")
@click.option("--size", help="WIDTHxHEIGHT, or 256, 480, 704, 720, 768.")
@click.option("--aspect", type=click.Choice(ASPECTS), help="With a resolution as --size; default: 16:9, pictures 1:1.")
@click.option("--frames", type=int, help="Length, rounded up to 1 + 4n; 1 makes a picture.")
@click.option("--fps", type=float, help="Frames a second.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of the noise; clip i has SEED + i.  [default: 0]")
@click.option("--negative", help="Negative prompt; @FILE reads it from a file.")
@click.option("--steps", type=POSITIVE, help="Solver steps.")
@click.option("--guidance", type=click.FloatRange(min=0), help="Classifier-free guidance; 1 switches it off.")
@click.option("--shift", type=click.FloatRange(min=0, min_open=True), help="Shift of the noise schedule.")
@click.option(
    "--guidance-interval", "interval", type=(float, float), help="Guide only between these timesteps (0-1000)."
)
@click.option("--condition-frames", type=POSITIVE, help="Latent frames of --video kept.  [default: 2]")
@click.option("--keep-last", is_flag=True, help="Continue the end of --video, not its beginning.")
@click.option("--facts/--no-facts", default=None, help="Tell the model duration, rate and size with each prompt.")
@click.option(
    "--max-prompt-tokens", type=POSITIVE, default=4096, show_default=True, help="A longer prompt is an error."
)
@click.option("--vae", help="Wan2.2_VAE.pth or its folder, instead of the source's.")
@click.option("--text-tokenizer", help="Folder or Hub name, instead of the source's; `words`: that of the demo.")
@click.option("--precision", type=click.Choice(["bfloat16", "float16", "float32"]), help="Default: the source's.")
@click.option("--compile/--no-compile", "compiled", default=None, help="Compile the layers; default: on accelerators.")
@click.option("--offload", is_flag=True, help="Keep the layers in host memory; needs little device memory.")
@click.option("--nproc", type=POSITIVE, default=1, show_default=True, help="Processes; each takes some of the clips.")
@click.option("--one-clip", is_flag=True, help="With --nproc: all processes work on each clip.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.pass_obj
def generate(plugins: PluginManager, /, source: str, overrides: tuple[str, ...], **options: Any) -> None:
    """Generate with SOURCE: a run or its name, a checkpoint, an export, a converted base, a published folder or name.

    Defaults depend on the model and on what is given (text, image, video). Everything that was used is in
    results.jsonl; index.html plays the clips.

    \b
    Examples:
      cosmos generate outputs/train/cosmos3/sft/vision_sft_nano --prompt "A robot arm folds a towel."
      cosmos generate RUN --validation 8 --compare examples/checkpoints/Cosmos3-Nano
      cosmos generate Cosmos3-Nano --prompt "A lighthouse at dusk" --frames 1 --size 768 -o pictures
      cosmos generate BASE --adapter my_adapter@0.7 --image start.png --prompt "It begins to rain." --size 480
      cosmos generate RUN --prompts prompts.jsonl --nproc 8
    """
    from cosmos_vfm.generate.clips import Settings
    from cosmos_vfm.generate.job import Job

    rows = _rows(options)
    taken = {name: options[name] for name in ("compare", "step", "weights", "adapters", "recipe", "vae", "precision")}
    taken |= {name: options[name] for name in ("text_tokenizer", "compiled", "offload", "nproc", "one_clip")}
    job = Job(source=source, overrides=overrides, limit=options["max_prompt_tokens"], **taken)
    names = ("size", "aspect", "frames", "fps", "seed", "steps", "guidance", "shift", "interval", "condition_frames")
    settings = Settings(
        **{name: options[name] for name in names},
        keep_last=options["keep_last"],
        tells_facts=options["facts"],
        negative=_text(options["negative"]),
    )
    from cosmos_vfm.generate.start import start

    folder, results = start(
        job, rows, settings, validation=options["validation"] or 0, output=options["output"], plugins=plugins
    )
    if options["as_json"]:
        click.echo(json.dumps({"page": str(folder / "index.html"), "results": results}, ensure_ascii=False))
        return
    for result in results:
        click.echo(str(folder / result["file"]))
    click.echo(f"open {folder / 'index.html'}", err=True)


def _rows(options: dict[str, Any]) -> list[Any]:
    """The prompts of the command line or of the file. Raises UserError when there are none, or from two places."""
    from cosmos_vfm.generate.prompt_file import Row, read_prompts

    given = {"--prompt": options["texts"], "--prompts": options["prompts"], "--validation": options["validation"]}
    places = [name for name, value in given.items() if value]
    if len(places) != 1:
        fault = "is no prompt" if not places else f"are prompts from {' and '.join(places)}"
        raise UserError(f"there {fault}; give --prompt TEXT, --prompts FILE or --validation COUNT")
    media = {"image": options["image"], "video": options["video"]}
    if any(media.values()) and not options["texts"]:
        problem = Problem(message=f"goes with --prompt, not with {places[0]}", key="--image, --video")
        raise UserError("images and videos of several prompts stand in their file", [problem])
    if options["prompts"]:
        return read_prompts(options["prompts"])
    return [Row(prompt=text, **media) for text in options["texts"]]


def _text(value: str | None) -> str | None:
    """A text, or that of the file behind @."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return read_text(Path(value[1:])).strip()
    except UserError as error:
        raise UserError("the negative prompt cannot be read (--negative)", error.problems) from None
