"""`cosmos checkpoints`: published checkpoints by name, and the checkpoints of runs."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.complete import checkpoint_names, run_directories
from cosmos_core.cli.options import folder_or_run, json_option, step_option
from cosmos_core.cli.output import print_facts, print_json, print_rows
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin.descriptors import CheckpointSpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["checkpoints", "fetch", "list_all", "pack", "verify"]

PACKED = "packed"
"""Folder of a run with whole copies; its record is found from there."""
SHORT = 12
"""Characters of a commit in a table; JSON has all."""


@click.group("checkpoints")
def checkpoints() -> None:
    """List and download the published checkpoints that commands know by name; verify and pack those of runs.

    \b
    Examples:
      cosmos checkpoints list
      cosmos checkpoints verify outputs/train/cosmos3/sft/hello
      cosmos checkpoints pack outputs/train/cosmos3/sft/hello
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
    length = None if as_json else SHORT
    specs = plugins.registry.all(CheckpointSpec)
    print_rows(columns, [[spec.name, spec.repo, spec.revision[:length], spec.summary] for spec in specs], as_json)


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
@click.argument("source", metavar="FOLDER", shell_complete=run_directories)
@json_option
def verify(source: str, as_json: bool) -> int:
    """Compare every file of FOLDER, a run or one checkpoint, with the checksums taken when it was written.

    The base that frozen weights were left to is compared by its digest. Exit code 2 when something is damaged.

    \b
    Examples:
      cosmos checkpoints verify outputs/train/cosmos3/sft/hello
      cosmos checkpoints verify outputs/train/cosmos3/sft/hello/checkpoints/iter_000000060
    """
    from cosmos_core.plan.checkpoint import complete_ones
    from cosmos_core.plan.hold import held_in_turn
    from cosmos_core.plan.manifest import MANIFEST

    folder = folder_or_run(source)
    places = (folder / "checkpoints", folder)
    checkpoints = next((complete for place in places if (complete := complete_ones(place))), [folder])
    faults = {path: _faults(path) for path in held_in_turn(checkpoints)}
    if faults == {folder: None}:
        raise UserError(f"{folder} is no checkpoint with a {MANIFEST}, nor a run with such checkpoints")
    if as_json:
        print_json({path.name: lines for path, lines in faults.items() if lines is not None})
    else:
        for path, lines in faults.items():
            state = "no manifest, from an older version" if lines is None else "; ".join(lines) or "whole"
            click.echo(f"{path.name}: {state}")
    return 2 if any(faults.values()) else 0


def _faults(checkpoint: Path) -> list[str] | None:
    """What differs from when a checkpoint was written; None when it never had a manifest to tell."""
    from cosmos_core.plan.checkpoint import doubts
    from cosmos_core.plan.manifest import MANIFEST, verify
    from cosmos_core.plan.paths import step_of

    if not (checkpoint / MANIFEST).is_file():
        place = checkpoint.resolve()  # Its name and the folder above tell what it is.
        return None if step_of(place) is None else doubts(place) or None
    return verify(checkpoint) + _wrong_base(checkpoint)


def _wrong_base(checkpoint: Path) -> list[str]:
    """What is wrong with the base that a checkpoint needs."""
    from cosmos_core.plan.frozen_base import FrozenBase

    base = FrozenBase.read(checkpoint)
    fault = base.fault() if base is not None and base.left_out else None
    return [] if fault is None else [f"its base: {fault}"]


@click.command("pack")
@click.argument("source", shell_complete=run_directories)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write; default: RUN/packed/iter_<N>.")
@step_option
@click.option(
    "--base",
    metavar="DIRECTORY",
    help="Where the base is now, a run too; default: where the checkpoint says.",
)
@json_option
@click.pass_obj
def pack(
    plugins: PluginManager, source: str, output: Path | None, step: int | None, base: str | None, as_json: bool
) -> None:
    """Copy a checkpoint of SOURCE, a run or one iter_<N>, with the frozen weights that it left to its base.

    Memory use does not grow with the model, and the copy appears when it is complete.

    \b
    Examples:
      cosmos checkpoints pack outputs/train/cosmos3/sft/vision_sft_super
      cosmos checkpoints pack RUN/checkpoints/iter_000000200 -o whole_200 --base /moved/base
    """
    from cosmos_core.checkpoint.pack import pack as write_whole
    from cosmos_core.plan.source import find_source

    origin = find_source(folder_or_run(source), plugins, step=step)
    if origin.kind not in ("run", "checkpoint") or origin.weights is None:
        lacks = "holds no complete checkpoint" if origin.weights is None else f"is {origin.label}, which needs no base"
        raise UserError("nothing was packed", [Problem(message=lacks, file=str(origin.folder))])
    checkpoint = origin.weights.resolve()
    if output is None and checkpoint.parent.name != "checkpoints":
        raise UserError("nothing was packed", [Problem(message=f"{checkpoint} is in no run", hint="say where with -o")])
    whole = output or checkpoint.parent.parent / PACKED / checkpoint.name
    facts = write_whole(checkpoint, whole, folder_or_run(base) if base is not None else None)
    print_facts({"source": str(checkpoint), **facts}, as_json)
