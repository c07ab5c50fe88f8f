"""`cosmos data check`: what training would read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosmos_core.cli.commands.data_show import recipe_of
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin.manager import PluginManager

if TYPE_CHECKING:
    from cosmos_core.data.dropped import Dropped
    from cosmos_core.train.check_data import DataReport

__all__ = ["check"]


@click.command("check")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--quick", is_flag=True, help="Read 200 samples, spread over the data.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a page with pictures.")
@click.pass_obj
def check(
    plugins: PluginManager, recipe: str, overrides: tuple[str, ...], quick: bool, as_json: bool, html: Path | None
) -> None:
    """Read the training data of RECIPE as training would, and tell what comes of it.

    RECIPE may also be a folder that `cosmos data prepare folder` wrote. Exit code 2 when training would refuse.

    \b
    Examples:
      cosmos data check data/mine
      cosmos data check vision_sft_demo --quick --html data.html
    """
    from attrs import asdict

    from cosmos_core.cli.output import print_json
    from cosmos_core.recipes.loading import resolve
    from cosmos_core.train.check_data import as_html, check_data

    config = resolve(recipe_of(recipe), overrides, plugins=plugins).config
    report = check_data(config, plugins, quick=quick)
    lines = list(_lines(report))
    if html is not None:
        html.write_text(as_html(lines, report), encoding="utf-8")
    if as_json:
        print_json({name: value for name, value in asdict(report).items() if name != "pictures"})
    else:
        click.echo("\n".join(lines))
    if report.problems:
        raise UserError("training would refuse this data", [Problem(message=text) for text in report.problems])


def _lines(report: DataReport) -> Iterator[str]:
    yield f"samples: {report.samples}, of which {report.read} were read"
    for label, group in (("left out", report.dropped), ("skipped", report.skipped), ("differs", report.differences)):
        yield from (f"{label}: {_told(dropped)}" for dropped in group)
    for name, (low, middle, high) in report.ranges.items():
        yield f"{name}: {low:g} to {high:g}, median {middle:g}"
    if report.sizes:
        yield f"sizes: {', '.join(f'{size} ({count})' for size, count in sorted(report.sizes.items()))}"
    full = "" if report.packing_efficiency is None else f", {report.packing_efficiency:.1%} full"
    yield f"packs: {report.packs}{full}"
    if report.steps is not None:
        yield f"steps an epoch on one process: {report.steps}"
    if report.latent_bytes:
        yield f"a latent cache would take {report.latent_bytes / 2**30:.1f} GiB"


def _told(dropped: Dropped) -> str:
    key = f"; dataset.{dropped.key} changes it" if dropped.key else ""
    return f"{dropped.count} x {dropped.reason}, e.g. {', '.join(dropped.examples) or '-'}{key}"
