"""`cosmos export`: a run's checkpoint becomes a folder that others load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosmos_core.cli.complete import run_directories, task_names
from cosmos_core.cli.options import folder_or_run, json_option, step_option
from cosmos_core.cli.output import print_facts
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.paths import BASE_FILE, RunPaths
from cosmos_core.plan.source import Source, find_source
from cosmos_core.plan.trained import trained_by
from cosmos_core.plugin.conversions import find_converter
from cosmos_core.plugin.descriptors import Conversion, ExportUse, ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager

if TYPE_CHECKING:
    from cosmos_core.config.run import RunConfig

__all__ = ["export"]

FORMATS = ("diffusers", "hf")


@click.command("export")
@click.argument("source", shell_complete=run_directories)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@step_option
@click.option("--weights", type=click.Choice(["ema", "live"]), help="Default: the average, where the run kept one.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float16", "float32"]), help="Default: that of the base.")
@click.option("--task", default=None, shell_complete=task_names, help="Model family; default: the run's.")
@click.option(
    "--format",
    "target_format",
    type=click.Choice(FORMATS),
    help="'diffusers', or 'hf': one folder of tensors. Default: that of the model family.",
)
@click.option("--layout", type=click.Choice(FORMATS), hidden=True)
@click.option("--merge/--adapter", default=True, help="Fold adapters into the weights, or export them alone.")
@click.option("--verify", is_flag=True, help="Read everything back and compare.")
@json_option
@click.pass_obj
def export(
    plugins: PluginManager,
    source: str,
    output: Path,
    step: int | None,
    weights: str | None,
    dtype: str | None,
    task: str | None,
    target_format: str | None,
    layout: str | None,
    merge: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Export SOURCE: a run (its directory or name), one of its iter_<N> folders, or a converted base.

    \b
    Examples:
      cosmos export outputs/train/cosmos3/sft/vision_sft_nano -o nano_tuned
      cosmos export RUN/checkpoints/iter_000000200 -o nano_200 --weights live --verify
      cosmos export outputs/train/cosmos3/sft/vision_sft_super -o super_adapter --adapter
    """
    from cosmos_core.config.structure import read_resolved
    from cosmos_core.report.model_card import write_description

    if layout is not None:
        click.echo("note: --layout is now called --format", err=True)
    if target_format is not None and layout is not None:
        raise UserError("--format and --layout are the same option; give --format only")
    if task is not None:
        plugins.registry.get(ModelFamilySpec, task)
    folder = folder_or_run(source)
    exported = _exportable(folder, step, plugins)
    iteration, record = exported.weights, exported.record
    assert iteration is not None
    config = read_resolved(record, plugins.registry) if record is not None else None
    spec = find_converter(plugins.registry, "dcp", "hf", _task(task, config, folder))
    base = _base(iteration, config, plugins)
    if not base.is_dir():
        click.echo(f"note: the base {base} does not exist, so nothing of it is exported", err=True)
    options = {
        "weights": weights or "",
        "verify": "yes" if verify else "",
        "dtype": dtype or "",
        "format": target_format or layout or "",
        "adapter": "" if merge else "yes",
    }
    request = Conversion(
        source=iteration,
        output=output,
        model=config.model if config else None,
        base=base,
        options=options,
    )
    facts = spec.convert.load()(request)
    describe = spec.describe.load() if spec.describe is not None else None
    write_description(exported, request, config, describe(request, config) if describe is not None else ExportUse())
    print_facts({"source": str(iteration), **facts, "described in": f"{output}/README.md"}, as_json)


def _task(given: str | None, config: RunConfig | None, source: Path) -> str | None:
    """The model family of the weights, None where nothing says it. Raises UserError for another than the run's."""
    own = given if config is None else config.job.task
    if given in (None, own):
        return own
    problem = Problem(message=f"is {given}", key="--task", hint="leave it out, or name the checkpoint that you mean")
    raise UserError(f"{source} was trained with job.task '{own}'; nothing was exported", [problem])


def _base(iteration: Path, config: RunConfig | None, plugins: PluginManager) -> Path:
    """The base of a chain of runs that started from each other."""
    from cosmos_core.config.structure import read_resolved

    base, seen = iteration, {iteration.resolve()}
    while config is not None and config.checkpoint.load_path and not (base / BASE_FILE).is_file():
        base = _weights_root(Path(config.checkpoint.load_path).resolve())
        if base.resolve() in seen:
            break
        seen.add(base.resolve())
        trained = trained_by(base)
        nearby = (RunPaths(folder).config_toml for folder in (base, *base.parents[:3]))
        file = trained.config if trained is not None else next((path for path in nearby if path.is_file()), None)
        config = read_resolved(file, plugins.registry) if file is not None else None
    return base


def _weights_root(path: Path) -> Path:
    """The base or iteration that a ``model/`` folder belongs to; other paths as they are."""
    return path.parent if path.name == "model" and (path / ".metadata").is_file() else path


def _exportable(path: Path, step: int | None, plugins: PluginManager) -> Source:
    """A source with a folder that holds ``model/``. Raises UserError."""
    source = find_source(path, plugins, step=step)
    if source.kind == "published":
        hint = f"`cosmos convert {path} -o DIR` makes a base of it, to train or to export from"
        problem = Problem(message="there is nothing left to export", file=str(path), hint=hint)
        raise UserError(f"{path} is {source.label} already", [problem])
    if source.weights is None:
        raise UserError(f"{path} holds no complete checkpoint")
    return source
