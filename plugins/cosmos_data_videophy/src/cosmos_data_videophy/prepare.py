"""`cosmos data prepare videophy2`: writes the dataset in its canonical layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cosmos_core.errors import UserError
from cosmos_core.text_files import read_text

__all__ = ["videophy2"]


@click.command("videophy2")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Dataset root to write.")
@click.option("--split", type=click.Choice(["train", "val", "test", "both"]), default="both", show_default=True)
@click.option("--source", type=click.Path(path_type=Path, exists=True), help="Local copy: a CSV, or a folder with one.")
@click.option("--score-field", type=click.Choice(["pc", "sa", "joint"]), default="pc", show_default=True)
@click.option("--include-caption", is_flag=True, help="End the question with the caption.")
@click.option("--prompt-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Another question.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows a split.")
@click.option("--workers", type=click.IntRange(min=1), default=16, show_default=True, help="Downloads at a time.")
@click.option(
    "--max-failures", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Share that may fail."
)
@click.option("--synthetic", type=click.IntRange(min=5), help="Draw so many training clips instead.")
@click.option(
    "--val", "validation", type=click.IntRange(min=5), default=500, show_default=True, help="With --synthetic."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="With --synthetic.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def videophy2(
    output: Path,
    split: str,
    source: Path | None,
    score_field: str,
    include_caption: bool,
    prompt_file: Path | None,
    limit: int | None,
    workers: int,
    max_failures: float,
    synthetic: int | None,
    validation: int,
    seed: int,
    as_json: bool,
) -> None:
    """Fetch VideoPhy-2, or draw a synthetic one, as videophy2_train/ and videophy2_val/ (the dataset's test split).

    Run it again to continue: intact videos whose source did not change are kept. Failures are listed in failures.jsonl
    beside the manifest, which is written last.

    \b
    Examples:
      cosmos data prepare videophy2 -o examples/data/videophysics
      cosmos data prepare videophy2 -o DIR --split val --source ./my_copy
      cosmos data prepare videophy2 --synthetic 4000 -o examples/data/physics_synthetic
    """
    if synthetic is not None:
        _draw(output, synthetic, validation, seed, as_json)
        return
    from cosmos_data_videophy.materialise import PrepareOptions, materialise

    question = _text(prompt_file) if prompt_file is not None else None
    if split == "both" and source is not None:
        _tell_of_one_table(source)
    failed = False
    splits: list[dict[str, Any]] = []
    for name in ("train", "val") if split == "both" else ("val" if split == "test" else split,):
        options = PrepareOptions(
            split=name,
            output=output,
            source=source,
            score=score_field,
            caption=include_caption,
            question=question,
            limit=limit,
            workers=workers,
        )
        report = materialise(options)
        folder = output / f"videophy2_{name}"
        splits.append({"folder": str(folder), "written": report.written, "rows": report.rows, "failed": report.failed})
        if not as_json:
            click.echo(f"{folder}: {report.written} of {report.rows} rows, {report.failed} failed")
        failed = failed or report.failed > max_failures * report.rows
    if as_json:
        click.echo(json.dumps({"dataset": str(output), "splits": splits}))
    if failed:
        raise UserError(
            "too many rows failed; see failures.jsonl in the split's folder, then run the same command again "
            "(--max-failures sets the share that may)"
        )


def _tell_of_one_table(source: Path) -> None:
    """Raises UserError when a split has no table."""
    from cosmos_data_videophy.tables import find_table

    table = find_table(source, "val")
    if table == find_table(source, "train"):
        one = f"both splits get the rows of {table.files[0]}, so validation will be on what was trained"
        click.echo(f"note: {one}; --split prepares one alone", err=True)


def _draw(output: Path, train: int, validation: int, seed: int, as_json: bool) -> None:
    from cosmos_data_videophy.writing import Synthetic, write_synthetic

    written = write_synthetic(output, Synthetic(train=train, val=validation, seed=seed))
    if as_json:
        click.echo(json.dumps({"dataset": str(output), "train": train, "val": validation, "written": written}))
        return
    click.echo(f"{output}: {train} training and {validation} validation clips" + ("" if written else ", already there"))


def _text(file: Path) -> str:
    return read_text(file).strip()
