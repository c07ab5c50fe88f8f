"""`cosmos data cache`: encode every clip of a recipe once."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cosmos_core.config import launched_rank
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin import PluginManager

__all__ = ["cache"]


@click.command("cache")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to fill.")
@click.option("--nproc", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--batch", type=click.IntRange(min=1), default=4, show_default=True, help="Clips encoded together.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def cache(
    plugins: PluginManager,
    recipe: str,
    overrides: tuple[str, ...],
    output: Path,
    nproc: int,
    batch: int,
    as_json: bool,
) -> None:
    """Encode the clips and captions of RECIPE's training data into a folder.

    Those of the validation data too where trainer.run_validation is true. Run it again to continue, or after adding
    clips. Then train with dataloader_train.cache=FOLDER.

    \b
    Examples:
      cosmos data cache vision_sft_nano -o examples/data/bridge_latents --nproc 8
      cosmos run vision_sft_nano dataloader_train.cache=examples/data/bridge_latents
    """
    from cosmos_vfm.encode import Job, encode, encode_in_processes
    from cosmos_vfm.ranks import Rank

    job = Job(recipe=recipe, overrides=overrides, output=output, batch=batch)
    launched = launched_rank()
    if launched is not None:
        facts = encode(job, Rank.of(launched.rank, launched.world), plugins)
    elif nproc == 1:
        facts = encode(job, Rank.of(), plugins)
    else:
        facts = encode_in_processes(job, nproc)
    counts = {name: facts[name] for name in ("clips", "encoded", "kept", "unreadable")}
    if as_json:
        click.echo(json.dumps(counts))
    else:
        for name, count in counts.items():
            click.echo(f"{name}: {count}")
    if not facts["encoded"] + facts["kept"]:
        problem = Problem(message="no clip could be read", key="dataloader_train.dataset")
        raise UserError("the cache is empty", [problem])
