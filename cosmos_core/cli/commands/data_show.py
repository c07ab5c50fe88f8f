"""`cosmos data show`: what the model would get."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.complete import data_and_recipes, key_values
from cosmos_core.cli.data_target import recipe_option, resolve_target
from cosmos_core.errors import make_folder
from cosmos_core.plugin.manager import PluginManager

__all__ = ["show"]


@click.command("show")
@click.argument("target", metavar="PATH_OR_RECIPE", shell_complete=data_and_recipes)
@click.argument("overrides", nargs=-1, shell_complete=key_values)
@recipe_option
@click.option(
    "--sample", default="0", show_default=True, metavar="N|KEY", help="Place in the first epoch, from 0, or a key."
)
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True,
    help="So many from there on; with more than one, each has a folder in the output.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.pass_obj
def show(
    plugins: PluginManager, target: str, overrides: tuple[str, ...], recipe: str | None, sample: str, count: int,
    output: Path,
) -> None:  # fmt: skip
    """Write a training sample of a recipe, or of any data, as the model would get it.

    PATH_OR_RECIPE is as for `cosmos data check`. Written are the frames before normalisation, sample.json, the
    rendered text with brackets around learned tokens, and a contact sheet.

    \b
    Examples:
      cosmos data show vision_sft_demo --sample 3 -o shown
      cosmos data show data/mine --count 4 -o shown
      cosmos data show my_dialogs.jsonl --sample dialog_17 -o shown
    """
    from cosmos_core.train.show_samples import show_samples

    config = resolve_target(target, overrides, recipe, plugins)
    make_folder(output.parent, "nothing was read")
    for line in show_samples(config, plugins, sample, count, output):
        click.echo(line)
