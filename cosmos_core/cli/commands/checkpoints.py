"""`cosmos checkpoints`: published checkpoints by name, and the checkpoints of runs."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.complete import checkpoint_names
from cosmos_core.cli.output import json_option, print_facts, print_json, print_table
from cosmos_core.plugin.descriptors import CheckpointSpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["checkpoints", "fetch", "list_all", "verify"]

SHORT = 12
"""Characters of a commit in a table; JSON has all."""


@click.group("checkpoints")
def checkpoints() -> None:
    """List and download the published checkpoints that commands know by name; verify those of runs.

    \b
    Examples:
      cosmos checkpoints list
      cosmos checkpoints verify outputs/train/cosmos3/sft/hello
      cosmos checkpoints fetch Wan2.2-VAE -o examples/checkpoints/wan22_vae
    """


@click.command("list")
@json_option
@click.pass_obj
def list_all(plugins: PluginManager, as_json: bool) -> None:
    """Every published checkpoint that commands may name.

    \b
    Examples:
      cosmos checkpoints list
    """
    columns = ["name", "repository", "revision", "summary"]
    rows = [[spec.name, spec.repo, spec.revision, spec.summary] for spec in plugins.registry.all(CheckpointSpec)]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, [[name, repo, revision[:SHORT], summary] for name, repo, revision, summary in rows])


@click.command("fetch")
@click.argument("name", shell_complete=checkpoint_names)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder; default: the Hub cache."
)
@json_option
@click.pass_obj
def fetch(plugins: PluginManager, name: str, output: Path | None, as_json: bool) -> None:
    """Download the checkpoint NAME; an interrupted download continues.

    \b
    Examples:
      cosmos checkpoints fetch Cosmos3-Nano
    """
    from cosmos_core.hub.reference import fetch as download

    snapshot = download(plugins.registry.get(CheckpointSpec, name), output)
    print_facts({"path": str(snapshot.path), "origin": snapshot.source_revision}, as_json)


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
def verify(folder: Path, as_json: bool) -> int:
    """Compare every file of FOLDER, a run or one checkpoint, with the checksums taken when it was written.

    Exit code 2 when something is damaged.

    \b
    Examples:
      cosmos checkpoints verify outputs/train/cosmos3/sft/hello
      cosmos checkpoints verify outputs/train/cosmos3/sft/hello/checkpoints/iter_000000100
    """
    from cosmos_core.errors import UserError
    from cosmos_core.plan.checkpoint import complete_ones
    from cosmos_core.plan.manifest import MANIFEST
    from cosmos_core.plan.manifest import verify as verify_bytes

    places = (folder / "checkpoints", folder)
    found = next((complete for place in places if (complete := complete_ones(place))), [folder])
    unknown = [path for path in found if not (path / MANIFEST).is_file()]
    if unknown == [folder]:
        raise UserError(f"{folder} is no checkpoint with a {MANIFEST}, nor a run with such checkpoints")
    wrong = {path: verify_bytes(path) for path in found if path not in unknown}
    if as_json:
        print_json({path.name: lines for path, lines in wrong.items()})
    else:
        for path in found:
            state = "no manifest, from an older version" if path in unknown else "; ".join(wrong[path]) or "whole"
            click.echo(f"{path.name}: {state}")
    return 2 if any(wrong.values()) else 0
