"""`cosmos checkpoints`: published checkpoints by name."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.output import print_json, print_table
from cosmos_core.plugin.descriptors import CheckpointSpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["fetch", "list_all"]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_all(plugins: PluginManager, as_json: bool) -> None:
    """Every published checkpoint that commands may name.

    \b
    Example:
      cosmos checkpoints list
    """
    columns = ["name", "repository", "revision", "summary"]
    rows = [[spec.name, spec.repo, spec.revision, spec.summary] for spec in plugins.registry.all(CheckpointSpec)]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


@click.command("fetch")
@click.argument("name")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder; default: the Hub cache."
)
@click.pass_obj
def fetch(plugins: PluginManager, name: str, output: Path | None) -> None:
    """Download the checkpoint NAME; an interrupted download continues.

    \b
    Example:
      cosmos checkpoints fetch Cosmos3-Nano
    """
    from cosmos_core.hub.reference import fetch as download

    snapshot = download(plugins.registry.get(CheckpointSpec, name), output)
    click.echo(f"path: {snapshot.path}")
    click.echo(f"origin: {snapshot.source_revision}")
