"""`cosmos data show`: what the model would get."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin.manager import PluginManager

__all__ = ["recipe_of", "show"]


@click.command("show")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--sample", "count", type=click.IntRange(min=1), default=4, show_default=True, help="How many samples.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.pass_obj
def show(plugins: PluginManager, recipe: str, overrides: tuple[str, ...], count: int, output: Path) -> None:
    """Write the first training samples of RECIPE as the model would get them.

    RECIPE may also be a folder that `cosmos data prepare folder` wrote. For each sample: its frames before
    normalisation, sample.json, the rendered text with brackets around learned tokens, and a contact sheet.

    \b
    Examples:
      cosmos data show vision_sft_demo --sample 2 -o shown
      cosmos data show data/mine -o shown
    """
    from cosmos_core.recipes.loading import resolve
    from cosmos_core.train.show_samples import show_samples

    config = resolve(recipe_of(recipe), overrides, plugins=plugins).config
    for line in show_samples(config, plugins, count, output):
        click.echo(line)


def recipe_of(recipe: str) -> str:
    """The recipe itself, or the one in a prepared folder. Raises UserError for a folder without one."""
    folder = Path(recipe)
    if not folder.is_dir():
        return recipe
    if not (folder / "recipe.toml").is_file():
        hint = "`cosmos data prepare folder` writes one"
        raise UserError(f"{folder} has no recipe.toml", [Problem(message="give a recipe", file=recipe, hint=hint)])
    return str(folder / "recipe.toml")
