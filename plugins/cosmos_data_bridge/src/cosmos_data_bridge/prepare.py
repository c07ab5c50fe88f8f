"""`cosmos data prepare bridge`: writes a dataset in the BridgeData2 layout."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cosmos_core.errors import UserError

__all__ = ["bridge"]


@click.command("bridge")
@click.option("--synthetic", "count", type=click.IntRange(min=1), help="Draw so many training clips instead.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Dataset root to write.")
@click.option("--val", "validation", type=click.IntRange(min=1), default=80, show_default=True, help="Held-out clips.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything drawn.")
@click.option("--size", type=click.IntRange(min=16), default=64, show_default=True, help="Side of a clip in pixels.")
@click.option("--frames", type=click.IntRange(min=1), default=17, show_default=True, help="Frames of a clip.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bridge(count: int | None, output: Path, validation: int, seed: int, size: int, frames: int, as_json: bool) -> None:
    """Fetch BridgeData2-Subset-Synthetic-Captions from the Hub, at the commit its recipes were written for.

    With --synthetic, draw coloured shapes that move over grey textures, with captions that state every attribute. 40 of
    the 288 combinations of colour, shape, direction and background occur in the validation split only. The same
    options give the same files, byte for byte. A dataset that is there already is not changed.

    \b
    Examples:
      cosmos data prepare bridge -o examples/data/BridgeData2-Subset-Synthetic-Captions
      cosmos data prepare bridge --synthetic 768 -o examples/data/bridge_synthetic
    """
    from cosmos_data_bridge.published import fetch_published
    from cosmos_data_bridge.writing import SyntheticOptions, write_synthetic

    if count is None:
        dataset = fetch_published(output)
        click.echo(json.dumps({"dataset": str(dataset)}) if as_json else f"dataset: {dataset}")
        return
    if size % 16:
        raise UserError(f"--size must be a multiple of 16; got {size}")
    written = write_synthetic(
        output, SyntheticOptions(train=count, val=validation, seed=seed, size=size, frames=frames)
    )
    if as_json:
        click.echo(json.dumps({"dataset": str(output), "train": count, "val": validation, "written": written}))
        return
    click.echo(f"{output}: {count} training and {validation} validation clips" + ("" if written else ", already there"))
