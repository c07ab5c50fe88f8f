"""`cosmos eval`: validation metrics of whatever weights there are."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.complete import key_values, run_directories, steps
from cosmos_core.cli.output import print_notes
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.source import Source, find_source
from cosmos_core.plugin.descriptors import CheckpointSpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import list_recipes
from cosmos_core.strict_json import dumps

__all__ = ["evaluate"]


@click.command("eval")
@click.argument("source", shell_complete=run_directories)
@click.argument("overrides", nargs=-1, shell_complete=key_values)
@click.option("--recipe", help="Recipe that says data and settings; for a SOURCE that no run recorded them for.")
@click.option(
    "--step",
    type=click.IntRange(min=0),
    shell_complete=steps,
    help="Which checkpoint of a run; default: the latest.",
)
@click.option(
    "--weights",
    type=click.Choice(["ema", "live", "fresh"]),
    default="ema",
    show_default=True,
    help="Of a run: the average if it kept one, the weights themselves, or what it started from.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most this many batches; default: all.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for files; default: evaluation/ of the run, else of the output root.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def evaluate(
    plugins: PluginManager,
    source: str,
    overrides: tuple[str, ...],
    recipe: str | None,
    step: int | None,
    weights: str,
    limit: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Evaluate SOURCE on validation data. OVERRIDES are key=value pairs as for `cosmos run`.

    SOURCE is a run directory, one of its checkpoints, an export, a converted base, a published folder or name, or a
    recipe, which means the weights that a new run of it would start from.

    \b
    Examples:
      cosmos eval outputs/train/cosmos3/sft/vision_sft_nano
      cosmos eval RUN --step 400 dataloader_val.dataset.path=other_data --json
      cosmos eval my_export --recipe vision_sft_nano
      cosmos eval vision_sft_nano
    """
    from cosmos_core.recipes.loading import load_recorded, resolve

    found = _find(source, plugins, step=step)
    if found is not None and weights != "fresh" and any(text.startswith("checkpoint.load_path=") for text in overrides):
        raise UserError("SOURCE says which weights are evaluated; leave checkpoint.load_path out, or evaluate a recipe")
    record = found.record if found is not None else None
    if recipe is None and record is not None:
        config = load_recorded(record, overrides, plugins=plugins)
    else:
        resolved = resolve(_recipe(source, found, recipe), overrides, plugins=plugins)
        print_notes(resolved.notes)
        config = resolved.config
    folder = output if output is not None else _folder(source, found)
    from cosmos_core.train.evaluate_run import evaluate_run

    metrics = evaluate_run(found, config, folder, plugins=plugins, weights=weights, limit=limit)
    folder.mkdir(parents=True, exist_ok=True)
    evaluated = _evaluated(source, found, weights)
    report = {"weights": evaluated, "overrides": list(overrides), "metrics": metrics}
    (folder / "metrics.json").write_text(dumps(report) + "\n", encoding="utf-8")
    if as_json:
        click.echo(dumps(metrics))
        return
    for name, value in metrics.items():
        click.echo(f"{name}: {value:.4f}")
    click.echo(f"weights: {evaluated}\nfiles: {folder}", err=True)


def _find(name: str, plugins: PluginManager, *, step: int | None) -> Source | None:
    """The folder that SOURCE names, fetched if it is a published name; None for a recipe. Raises UserError."""
    if Path(name).is_dir():
        return find_source(Path(name), plugins, step=step)
    recipes = [recipe.name for recipe in list_recipes()]
    if name.endswith(".toml") or name.rpartition(":")[2] in recipes:
        if step is not None:
            raise UserError("--step is for run directories; a recipe has no checkpoints")
        return None
    published = [spec.name for spec in plugins.registry.all(CheckpointSpec)]
    if name in published:
        from cosmos_core.hub.reference import locate_checkpoint

        return find_source(locate_checkpoint(name, plugins.registry).path, plugins, step=step)
    message = (
        f"{name} is no folder, no recipe (`cosmos recipes list`) and no published name (`cosmos checkpoints list`)"
    )
    raise UserError(
        "there is nothing to evaluate", [Problem(message=message, hint=did_you_mean(name, [*recipes, *published]))]
    )


def _evaluated(name: str, source: Source | None, weights: str) -> str:
    """Which weights were evaluated, for the report."""
    if source is None or weights == "fresh":
        return f"those that a run of {name} starts from"
    return f"{source.weights} ({weights})" if source.kind in ("run", "checkpoint") else str(source.weights)


def _recipe(name: str, source: Source | None, recipe: str | None) -> str:
    """The recipe that gives data and settings. Raises UserError when none is known."""
    if source is None and recipe is not None:
        raise UserError("SOURCE is a recipe already; leave --recipe out")
    if source is None or recipe is not None:
        return recipe or name
    if source.kind == "run" and RunPaths(source.folder).launches.is_dir():
        problem = Problem(message="no launch in it has completed a step", file=str(source.folder))
        raise UserError(f"{source.folder} holds nothing to evaluate yet", [problem])
    hint = "name a recipe: --recipe NAME_OR_FILE"
    problem = Problem(message=f"it is {source.label}, which does not record any", file=str(source.folder), hint=hint)
    raise UserError(f"{source.folder} does not say on which data to evaluate", [problem])


def _folder(name: str, source: Source | None) -> Path:
    """Where files go: into the run if it is known, else ``evaluation/<name>`` of the output root."""
    from cosmos_core.config.env import output_root

    if source is not None and source.run_dir is not None:
        return RunPaths(source.run_dir).evaluation
    own = Path(name).resolve().name if Path(name).is_dir() else Path(name.rpartition(":")[2]).stem
    return output_root() / "evaluation" / own
