"""`cosmos recipes`: lists, shows, copies and checks recipes."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.output import print_json, print_notes, print_table
from cosmos_core.config.problems import render_problem
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import list_recipes
from cosmos_core.recipes.peek import peek

__all__ = ["check", "copy", "list_all", "show"]


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
    installed = list_recipes()
    for recipe in installed:
        glance = peek(recipe.path, installed)
        text = glance.text if glance.problem is None else f"cannot be loaded: {render_problem(glance.problem)}"
        rows.append([recipe.name, glance.task, glance.dataset, recipe.distribution, text])
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


@click.command("show")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--origins", is_flag=True, help="One line per value, with the file and line where it was set.")
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
    from cosmos_core.recipes.loading import resolve
    from cosmos_core.recipes.show import show as text

    resolved = resolve(recipe, overrides, plugins=plugins)
    print_notes(resolved.notes)
    not_yet = peek(resolved.path).not_yet
    if not_yet is not None:
        click.echo(f"# not yet: {not_yet.message}", err=as_json)
    if as_json:
        print_json(to_plain(resolved.config))
    else:
        click.echo(text(resolved, provenance=origins), nl=False)


@click.command("copy")
@click.argument("recipe")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def copy(recipe: str, file: Path) -> None:
    """Copy RECIPE to FILE, with its comments, to change it.

    \b
    Example:
      cosmos recipes copy vision_sft_nano my_run.toml
    """
    from cosmos_core.errors import Problem, UserError
    from cosmos_core.recipes.find import find_recipe

    if file.exists():
        raise UserError(f"{file} exists already; nothing was written", [Problem(message="choose another name")])
    file.write_text(find_recipe(recipe).read_text(encoding="utf-8"), encoding="utf-8")
    click.echo(f"{file}: a copy of {recipe}; run it with `cosmos run {file}`")


@click.command("check")
@click.argument("files", nargs=-1, required=True)
@click.option("--strict", is_flag=True, help="Also reject what is accepted only for old recipes.")
@click.pass_obj
def check(plugins: PluginManager, files: tuple[str, ...], strict: bool) -> None:
    """Load each of FILES (or recipe names) and stop at the first with problems.

    \b
    Example:
      cosmos recipes check my_run.toml other.toml
    """
    from cosmos_core.errors import UserError
    from cosmos_core.recipes.loading import resolve

    for file in files:
        resolved = resolve(file, plugins=plugins)
        if strict and resolved.notes:
            raise UserError(f"{file} holds what is accepted only for old recipes", resolved.notes)
        print_notes(resolved.notes)
        click.echo(f"{file}: ok")
