"""`cosmos data prepare folder`: from clips and captions to a dataset and a recipe."""

from __future__ import annotations

import shlex
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosmos_core.errors import UserError
from cosmos_core.names import counted
from cosmos_core.plugin import PluginManager

if TYPE_CHECKING:
    from cosmos_core.config import LoaderConfig

__all__ = ["folder"]


@click.command("folder")
@click.argument("source", type=click.Path())
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Dataset root to write.")
@click.option("--path-column", help="Column of a table that holds paths; default: looked for.")
@click.option("--caption-column", help="Column of a table that holds captions; default: looked for.")
@click.option("--window", type=click.IntRange(min=1), help="Frames of a window; default: the whole clip.")
@click.option("--stride", type=click.IntRange(min=1), help="Frames to the next window; default: as --window.")
@click.option(
    "--val", "validation", type=click.FloatRange(0, 1, max_open=True), default=0.05, show_default=True,
    help="Share of the files held out.",
)  # fmt: skip
@click.option("--copy", is_flag=True, help="Copy the clips, or unpack them from tars and tables.")
@click.option("--recipe", default="vision_sft_nano", show_default=True, help="Recipe that the written one extends.")
@click.pass_obj
def folder(
    plugins: PluginManager,
    source: str,
    output: Path,
    path_column: str | None,
    caption_column: str | None,
    window: int | None,
    stride: int | None,
    validation: float,
    copy: bool,
    recipe: str,
) -> None:
    """Write a dataset and a recipe for the clips and pictures of SOURCE.

    SOURCE is a folder with a caption beside every clip (a.mp4 and a.txt or a.json), a table (CSV, TSV, JSONL, Parquet,
    Feather) of paths and captions, a folder with such a table called metadata.*, WebDataset tars, or a Hugging Face
    dataset: a folder of Parquet or Arrow files, or hf://datasets/OWNER/NAME[@REVISION][/FOLDER]. Clips stay where they
    are unless --copy is given. Every file is decoded once; those that cannot be used are left out and told.
    Interrupted, the same command goes on: files that have not changed are not decoded again.

    \b
    Examples:
      cosmos data prepare folder my_clips -o data/mine
      cosmos data prepare folder captions.csv -o data/mine --window 61 --stride 30
      cosmos data prepare folder hf://datasets/acme/clips -o data/mine --copy
      cosmos run data/mine/recipe.toml
    """
    from cosmos_core.recipes import resolve
    from cosmos_data_bridge.config import BridgeConfig
    from cosmos_data_bridge.folder.listing import fetched
    from cosmos_data_bridge.folder.measure import Cut
    from cosmos_data_bridge.folder.recipe import RECIPE
    from cosmos_data_bridge.folder.writing import Options, write_folder

    if isnan(validation):  # Which every bound lets through.
        raise UserError("--val is nan; give a share of the files, from 0 to below 1")
    if stride is not None and window is None:
        raise UserError("--stride has no effect without --window, the frames of a window; give both or neither")
    extended = resolve(recipe, plugins=plugins).config
    loader = extended.dataloader_train
    dataset = loader.dataset
    if not isinstance(dataset, BridgeConfig):
        types = " and ".join(f"'{data.type}'" for data in loader.datasets.values())
        raise UserError(f"recipe '{recipe}' trains on {types}, not on clips; choose another --recipe")
    # The written recipe lies elsewhere, so that a path must not depend on where this command runs.
    extends = str(Path(recipe).resolve()) if recipe.endswith(".toml") else recipe
    options = Options(Cut(window, stride), validation, copy, extends, dataset.resolution)
    caps = {} if extended.dataloader_val and _caps(extended.dataloader_val) else _caps(loader)
    written = write_folder(fetched(source, path_column, caption_column), output, options, click.echo, caps)
    for name in ("train", "val"):
        text = (output / name / "video_dataset_file.jsonl").read_text(encoding="utf-8")
        count = text.count("\n")
        click.echo(f"{name}: {counted(count, 'clip')}")
    command = shlex.join(["cosmos", "run", str(output / RECIPE)])
    click.echo(f"{output}: {'written' if written else 'already there'}; train with `{command}`")


def _caps(loader: LoaderConfig) -> dict[str, int]:
    """Caps of a micro-batch that a recipe sets."""
    caps = {name: getattr(loader, name) for name in ("max_sequence_length", "max_samples_per_batch")}
    return {name: cap for name, cap in caps.items() if cap is not None}
