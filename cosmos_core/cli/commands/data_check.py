"""`cosmos data check`: what training would read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosmos_core.cli.complete import data_and_recipes, key_values
from cosmos_core.cli.data_target import recipe_option, resolve_target
from cosmos_core.cli.options import json_option
from cosmos_core.errors import Problem, UserError, make_folder, writing
from cosmos_core.plugin.manager import PluginManager

if TYPE_CHECKING:
    from cosmos_core.train.check_data import DataReport

__all__ = ["check"]


@click.command("check")
@click.argument("target", metavar="PATH_OR_RECIPE", shell_complete=data_and_recipes)
@click.argument("overrides", nargs=-1, shell_complete=key_values)
@recipe_option
@click.option("--quick", is_flag=True, help="Read 200 samples, spread over the data.")
@json_option
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False),
    help="The page with pictures; default: data_check/<name>.html below the output root.",
)  # fmt: skip
@click.option("--no-html", is_flag=True, help="Write no page.")
@click.pass_obj
def check(
    plugins: PluginManager, target: str, overrides: tuple[str, ...], recipe: str | None, quick: bool, as_json: bool,
    html: Path | None, no_html: bool,
) -> None:  # fmt: skip
    """Read the data of a recipe, or any data, as training would, and tell what comes of it.

    PATH_OR_RECIPE is a recipe, a folder that `cosmos data prepare` wrote, a folder or table of captioned clips, a
    manifest, or a file or folder of dialogs. Validation data is read too where the recipe validates. Exit code 2 when
    training would refuse.

    \b
    Examples:
      cosmos data check data/mine
      cosmos data check my_dialogs.jsonl --recipe llava_ov
      cosmos data check vision_sft_demo --quick --html data.html
    """
    from cosmos_core.cli.output import print_json
    from cosmos_core.train.check_data import check_data
    from cosmos_core.train.check_page import as_html, facts

    config = resolve_target(target, overrides, recipe, plugins)
    page = None if no_html else html or _default_page(target)
    if page is not None:
        make_folder(page.parent, "nothing was read")
    reports = check_data(config, plugins, quick=quick)
    if page is not None:
        _write(page, as_html(f"data of {target}", reports).encode())
    if as_json:
        sections = {report.section: _plain(report) for report in reports}
        print_json({"page": None if page is None else str(page), **sections})
    else:
        for report in reports:
            click.echo(f"{report.section}:")
            for name, text in facts(report):
                click.echo(f"  {name}: {text}")
        if page is not None:
            click.echo(f"page: {page}")
    problems = [Problem(message=text) for report in reports for text in report.problems]
    if problems:
        raise UserError("training would refuse this data", problems)


def _write(page: Path, content: bytes) -> None:
    """Whole or not at all, but into a pipe or a device. Raises UserError."""
    from cosmos_core.plan.record import replace_file

    with writing(page):
        if page.exists() and not page.is_file():
            page.write_bytes(content)
        else:
            replace_file(page.resolve(), content)


def _default_page(target: str) -> Path:
    from cosmos_core.config.env import output_root

    path = Path(target).resolve()
    name = path.parent.name if path.name == "recipe.toml" else path.stem if path.is_file() else path.name
    return output_root() / "data_check" / f"{name.replace(':', '_')}.html"


def _plain(report: DataReport) -> dict[str, object]:
    """The report without its samples."""
    from attrs import asdict, fields

    rows = fields(type(report)).rows
    return asdict(report, filter=lambda attribute, value: attribute != rows)
