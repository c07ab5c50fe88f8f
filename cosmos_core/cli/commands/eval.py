"""`cosmos eval`: the validation metrics of a run."""

from __future__ import annotations

from pathlib import Path

import click

from cosmos_core.cli.complete import run_directories, steps
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.strict_json import dumps

__all__ = ["evaluate"]


@click.command("eval")
@click.argument(
    "run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False), shell_complete=run_directories
)
@click.option("--step", type=click.IntRange(min=0), shell_complete=steps, help="Which checkpoint; default: the latest.")
@click.option("--weights", type=click.Choice(["ema", "live", "fresh"]), default="ema", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="At most this many batches; default: all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def evaluate(
    plugins: PluginManager, run_dir: Path, step: int | None, weights: str, limit: int | None, as_json: bool
) -> None:
    """Evaluate RUN_DIR on its validation data; datasets that score also write files to RUN_DIR/evaluation.

    \b
    Examples:
      cosmos eval outputs/train/cosmos3/vlm_videophy2_sft/videophy2_sft_nano
      cosmos eval RUN --step 400 --json
    """
    paths = RunPaths(run_dir)
    if not paths.config_toml.is_file():
        begun = paths.launches.is_dir()
        message = "no launch in it has completed a step" if begun else "it has no config.toml"
        title = f"{run_dir} holds nothing to evaluate yet" if begun else f"{run_dir} is not a run directory"
        raise UserError(title, [Problem(message=message, file=str(run_dir))])
    from cosmos_core.train.evaluate_run import evaluate_run

    metrics = evaluate_run(run_dir, plugins=plugins, step=step, weights=weights, limit=limit)
    if as_json:
        click.echo(dumps(metrics))
        return
    for name, value in metrics.items():
        click.echo(f"{name}: {value:.4f}")
