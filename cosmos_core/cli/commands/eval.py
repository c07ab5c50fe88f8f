"""`cosmos eval`: validation metrics of whatever weights there are."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.complete import key_values, run_directories
from cosmos_core.cli.options import json_option, step_option
from cosmos_core.cli.output import print_notes
from cosmos_core.config.env import output_root
from cosmos_core.config.run import RunConfig
from cosmos_core.errors import Problem, UserError, make_folder, writing
from cosmos_core.names import did_you_mean
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.runs import tell_passed_over
from cosmos_core.plan.source import Source, locate_source
from cosmos_core.plugin.descriptors import DatasetSpec, ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import list_recipes
from cosmos_core.recipes.peek import check_can_run
from cosmos_core.strict_json import dumps

__all__ = ["evaluate"]


@click.command("eval")
@click.argument("source", shell_complete=run_directories)
@click.argument("overrides", metavar="[DATASET_OR_RECIPE] [KEY=VALUE]...", nargs=-1, shell_complete=key_values)
@click.option("--recipe", help="Recipe that says data and settings; for a SOURCE that no run recorded them for.")
@step_option
@click.option(
    "--weights",
    type=click.Choice(["ema", "live", "fresh"]),
    default="ema",
    show_default=True,
    help="Of a run: the average if it kept one, the weights themselves, or what it started from.",
)
@click.option("--metric", "metrics", multiple=True, metavar="MODULE:FUNCTION", help="One more metric of the answers.")
@click.option("--answers", type=click.IntRange(min=0), help="At most so many answers; default: to all samples.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many batches; default: all.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for files; default: evaluation/ of the run, else of the output root.",
)
@json_option
@click.pass_obj
def evaluate(
    plugins: PluginManager,
    source: str,
    overrides: tuple[str, ...],
    recipe: str | None,
    step: int | None,
    weights: str,
    metrics: tuple[str, ...],
    answers: int | None,
    limit: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Evaluate SOURCE on validation data: `cosmos eval SOURCE [DATASET_OR_RECIPE] [key=value ...]`.

    SOURCE is a run (its directory or name), one of its checkpoints, an export, a converted base, a published folder or
    name, or a recipe, which means the weights that a new run of it would start from. Of a run that is called like a
    recipe give the directory.

    DATASET_OR_RECIPE is a file or folder with data of your own, a dataset's type, or a recipe, which gives the settings
    too; by default the validation data that the run recorded.

    answers.html in the output folder shows what the model said beside what the data says. --metric adds a metric: a
    function that takes a list of answers (key, prediction, reference) and returns a number, or a list of one for each.

    \b
    Examples:
      cosmos eval outputs/train/cosmos3/sft/vision_sft_nano
      cosmos eval RUN --step 400 dataloader_val.dataset.path=other_data --json
      cosmos eval my_export questions.jsonl --metric my_metrics:politeness
      cosmos eval my_export vision_sft_nano
      cosmos eval vision_sft_nano
    """
    from cosmos_core.train.evaluate_run import EvaluationTask, evaluate_run

    data, recipe, overrides = _parted(overrides, recipe, plugins)
    origin = _find(source, plugins, step=step)
    if origin and weights != "fresh" and any(text.startswith("checkpoint.load_path=") for text in overrides):
        raise UserError("SOURCE says which weights are evaluated; leave checkpoint.load_path out, or evaluate a recipe")
    config = _configuration(source, origin, recipe, data, overrides, plugins)
    folder = output if output is not None else _folder(source, origin)
    task = EvaluationTask(
        source=origin, config=config, folder=folder, weights=weights, limit=limit, num_answers=answers, metrics=metrics
    )
    make_folder(folder, "nothing was evaluated")
    result = evaluate_run(task, plugins=plugins)
    evaluated = _evaluated(source, origin, weights, averaged=config.model.ema.enabled)
    dataset = {"dataset": data} if data is not None else {}
    facts = {"weights": evaluated, **dataset, "overrides": list(overrides), "data": result.data}
    report = {**facts, "metrics": result.metrics}
    try:
        with writing(folder / "metrics.json"):
            (folder / "metrics.json").write_text(dumps(report) + "\n", encoding="utf-8")
    finally:  # A full disk must not take the metrics along.
        if as_json:
            click.echo(dumps(result.metrics))
        else:
            for name, value in result.metrics.items():
                click.echo(f"{name}: {value:.4f}")
            click.echo(f"weights: {evaluated}\ndata: {result.data}\nfiles: {folder}", err=True)


def _parted(
    words: tuple[str, ...], recipe: str | None, plugins: PluginManager
) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Dataset, recipe and overrides, where the first word may be either of the former. Raises UserError."""
    if not words or "=" in words[0]:
        return None, recipe, words
    if not _is_recipe(words[0]):
        _check_dataset(words[0], plugins)
        return words[0], recipe, words[1:]
    if recipe is not None:
        raise UserError(f"{words[0]} is a recipe, and --recipe names another one; leave one out")
    return None, words[0], words[1:]


def _is_recipe(name: str) -> bool:
    return name.endswith(".toml") or name.rpartition(":")[2] in [recipe.name for recipe in list_recipes()]


def _check_dataset(name: str, plugins: PluginManager) -> None:
    """Raises UserError for a word that is no file, folder, dataset or recipe."""
    datasets = [spec.name for spec in plugins.registry.all(DatasetSpec)]
    if Path(name).exists() or name.rpartition(":")[2] in datasets:
        return
    recipes = [recipe.name for recipe in list_recipes()]
    message = f"'{name}' is no file or folder, no dataset, no recipe, and no key=value"
    hint = did_you_mean(name, [*datasets, *recipes]) or f"datasets: {', '.join(datasets)}"
    raise UserError("it is not clear on what to evaluate", [Problem(message=message, hint=hint)])


def _configuration(
    name: str,
    source: Source | None,
    recipe: str | None,
    data: str | None,
    overrides: tuple[str, ...],
    plugins: PluginManager,
) -> RunConfig:
    """Settings and data: what the run recorded or the recipe says, with other data if it is named."""
    from cosmos_core.recipes.loading import load_recorded, resolve
    from cosmos_core.recipes.with_dataset import dataset_table, with_dataset

    record = source.record if source is not None else None
    if data is None and recipe is None and record is not None:
        return load_recorded(record, overrides, plugins=plugins)
    if data is None:
        resolved = resolve(_recipe(name, source, recipe), overrides, plugins=plugins)
    else:
        config: RunConfig | None = None
        if recipe is None and record is not None:
            config = load_recorded(record, plugins=plugins)
        elif recipe is not None or source is None or source.kind != "published":
            config = resolve(_recipe(name, source, recipe), plugins=plugins).config
        task = config.job.task if config is not None else _reader(source, plugins)
        resolved = with_dataset(config, task, dataset_table(data, plugins), overrides, plugins=plugins)
    print_notes(resolved.notes)
    return resolved.config


def _reader(source: Source | None, plugins: PluginManager) -> str:
    """The task of the family that reads a published folder as it is. Raises UserError when none does."""
    for spec in plugins.registry.all(ModelFamilySpec):
        if source is not None and source.format in spec.reads:
            return spec.name
    raise UserError("no installed model family reads these weights; name a recipe: --recipe NAME_OR_FILE")


def _find(name: str, plugins: PluginManager, *, step: int | None) -> Source | None:
    """The weights that SOURCE names, fetched if it is a published name; None for a recipe. Raises UserError."""
    if not Path(name).is_dir() and _is_recipe(name):
        if step is not None:
            raise UserError("--step is for run directories; a recipe has no checkpoints")
        check_can_run(name)
        tell_passed_over(name, output_root(), "a recipe")
        return None
    recipes = [recipe.name for recipe in list_recipes()]
    return locate_source(name, plugins, step=step, others={"recipe (`cosmos recipes list`)": recipes})


def _evaluated(name: str, source: Source | None, weights: str, *, averaged: bool) -> str:
    """Which weights were evaluated, for the report. averaged: whether the run keeps an average."""
    if source is None or weights == "fresh":
        return f"those that a run of {name} starts from"
    weights = "live" if not averaged else weights
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
    if source is not None and source.run_dir is not None:
        return RunPaths(source.run_dir).evaluation
    own = Path(name).resolve().name if Path(name).is_dir() else Path(name.rpartition(":")[2]).stem
    return output_root() / "evaluation" / own
