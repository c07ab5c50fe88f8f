"""`cosmos recipes`: lists, shows, copies and checks recipes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from attrs import asdict

from cosmos_core.cli.complete import key_values, recipes_and_files
from cosmos_core.cli.options import json_option
from cosmos_core.cli.output import print_json, print_notes, print_rows
from cosmos_core.config.problems import render_problem
from cosmos_core.errors import Problem, writing
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import find_recipe, list_recipes
from cosmos_core.recipes.peek import peek

__all__ = ["check", "copy", "list_all", "recipes", "show"]


@click.group("recipes")
def recipes() -> None:
    """List, show, copy and check recipes.

    \b
    Examples:
      cosmos recipes list
      cosmos recipes show vision_sft_nano --origins
      cosmos recipes copy vision_sft_nano my_run.toml
    """


@click.command("list")
@json_option
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
    print_rows(columns, rows, as_json)


@click.command("show")
@click.argument("recipe", shell_complete=recipes_and_files)
@click.argument("overrides", nargs=-1, shell_complete=key_values)
@click.option("--origins", is_flag=True, help="One line per value, with the file and line where it was set.")
@json_option
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
@click.argument("recipe", shell_complete=recipes_and_files)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def copy(recipe: str, file: Path) -> None:
    """Copy RECIPE to FILE, with its comments, to change it.

    \b
    Examples:
      cosmos recipes copy vision_sft_nano my_run.toml
    """
    from cosmos_core.errors import UserError

    if file.suffix != ".toml":
        hint = Problem(
            message="the name of a recipe's file ends in .toml", hint=f"cosmos recipes copy {recipe} {file}.toml"
        )
        raise UserError(f"{file} cannot be run; nothing was written", [hint])
    if file.exists():
        raise UserError(f"{file} exists already; nothing was written", [Problem(message="choose another name")])
    if not file.parent.is_dir():
        hint = Problem(message="no such folder", file=str(file.parent), hint="make it, or choose another one")
        raise UserError(f"{file} cannot be written", [hint])
    text = find_recipe(recipe).read_text(encoding="utf-8")
    with writing(file):
        file.write_text(text, encoding="utf-8")
    click.echo(f"{file}: a copy of {recipe}; run it with `cosmos run {file}`")


@click.command("check")
@click.argument("files", nargs=-1, required=True, shell_complete=recipes_and_files)
@click.option("--strict", is_flag=True, help="Also reject what is accepted only for old recipes.")
@json_option
@click.pass_obj
def check(plugins: PluginManager, files: tuple[str, ...], strict: bool, as_json: bool) -> int:
    """Load each of FILES (or recipe names), and print all problems of all of them. Exit code 2 if there are any.

    \b
    Examples:
      cosmos recipes check my_run.toml other.toml
    """
    from cosmos_core.config.problems import render
    from cosmos_core.errors import UserError

    report: list[dict[str, Any]] = []
    for file in files:
        try:
            notes = _load(file, strict, plugins)
        except UserError as error:
            report.append(_result(file, error.problems, error.title))
            click.echo(render(error), err=True)
            continue
        reason = peek(find_recipe(file)).not_yet
        not_yet = "" if reason is None else reason.message
        report.append(_result(file, notes, not_yet=not_yet))
        print_notes(notes)
        if not as_json:
            click.echo(f"{file}: ok" + (f"; cannot run yet: {not_yet}" if not_yet else ""))
    if as_json:
        print_json(report)
    failed = [row["file"] for row in report if not row["ok"]]
    if failed and len(files) > 1:
        click.echo(f"error: {len(failed)} of {len(files)} recipes have problems: {', '.join(failed)}", err=True)
    return 2 if failed else 0


def _result(file: str, problems: Iterable[Problem], error: str = "", not_yet: str = "") -> dict[str, Any]:
    found = [asdict(problem) for problem in problems]
    return {"file": file, "ok": not error, "error": error, "not_yet": not_yet, "problems": found}


def _load(file: str, strict: bool, plugins: PluginManager) -> tuple[Problem, ...]:
    """What a recipe holds that is accepted only for old recipes. Raises UserError for all other problems."""
    from cosmos_core.errors import UserError
    from cosmos_core.recipes.loading import resolve

    notes = resolve(file, plugins=plugins).notes
    if strict and notes:
        raise UserError(f"{file} holds what is accepted only for old recipes", notes)
    return notes
