"""Options that several commands have, and the runs that arguments name."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.complete import steps

__all__ = ["folder_or_run", "json_option", "root_option", "step_option"]


def folder_or_run(text: str) -> Path:
    """A folder, or the run of this name below the output root. Raises UserError when it is neither."""
    from cosmos_core.config.env import output_root
    from cosmos_core.plan import runs

    return runs.folder_or_run(text, output_root())


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
root_option = click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), help="Where runs are looked up by name."
)
step_option = click.option(
    "--step", type=click.IntRange(min=0), shell_complete=steps, help="Which checkpoint of a run; default: the latest."
)
