"""`cosmos recipes`: what can be run and with which settings."""

from __future__ import annotations

import click

from cosmos_core.cli.output import print_json, print_table
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import list_recipes, peek

__all__ = ["list_all", "show"]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_all(as_json: bool) -> None:
    """Every installed recipe with its task, dataset and summary.

    \b
    Examples:
      cosmos recipes list
      cosmos recipes list --json
    """
    columns = ["recipe", "task", "dataset", "distribution", "summary"]
    rows = []
    for recipe in list_recipes():
        summary, task, dataset = peek(recipe.path)
        rows.append([recipe.name, task, dataset, recipe.distribution, summary])
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


@click.command("show")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--origins", is_flag=True, help="One line a value, with the file and line it came from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(plugins: PluginManager, recipe: str, overrides: tuple[str, ...], origins: bool, as_json: bool) -> None:
    """The whole configuration of RECIPE (a name or a file) after all layers and OVERRIDES.

    \b
    Examples:
      cosmos recipes show vision_sft_nano
      cosmos recipes show vision_sft_nano optimizer.lr=5e-5 --origins
    """
    from cosmos_core.config.dump import to_plain
    from cosmos_core.recipes.load import resolve
    from cosmos_core.recipes.show import show as text

    resolved = resolve(recipe, overrides, plugins=plugins)
    if as_json:
        print_json(to_plain(resolved.config))
    else:
        click.echo(text(resolved, origins=origins), nl=False)
