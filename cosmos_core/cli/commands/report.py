"""`cosmos report`: one HTML file that shows what came of one or more runs."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.complete import run_directories
from cosmos_core.cli.options import root_option
from cosmos_core.errors import Problem, UserError, writing

__all__ = ["report"]


@click.command("report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=run_directories)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The file to write.",
)
@root_option
def report(runs: tuple[str, ...], output: Path, root: Path | None) -> None:
    """Write a page of one or more runs: curves, samples, scores, answers, settings that differ, checkpoints.

    RUN is a run directory or a run's name. The file needs nothing beside it, but for samples beyond 20 MB, which it
    links. Every run writes its own page, report.html, when it ends.

    \b
    Examples:
      cosmos report vision_sft_demo
      cosmos report first second -o comparison.html
    """
    from cosmos_core.config.env import output_root
    from cosmos_core.launch.run_lock import is_locked
    from cosmos_core.plan.runs import find_run
    from cosmos_core.report.page import write_report

    folder = root if root is not None else output_root()
    run_dirs = list(dict.fromkeys(find_run(name, folder) for name in runs))
    if output.exists() and not output.is_file():  # Such as /dev/stdout, which the report would take the place of.
        problem = Problem(message="it is a device or a pipe", file=str(output), hint="choose another place")
        raise UserError(f"{output} cannot be written", [problem])
    if output.suffix.lower() not in (".html", ".htm"):
        problem = Problem(message="it would hold HTML", file=str(output), hint="choose a name that ends in .html")
        raise UserError(f"{output} cannot be written", [problem])
    with writing(output):
        write_report(run_dirs, output, is_running=is_locked)
    click.echo(f"report: {output}")
