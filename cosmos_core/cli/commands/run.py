"""`cosmos run`: from a recipe to a finished run."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

import click

from cosmos_core.cli.complete import key_values, recipes_and_files
from cosmos_core.config.env import launched_rank
from cosmos_core.plugin.manager import PluginManager

if TYPE_CHECKING:
    from cosmos_core.plan.plan import RunPlan

__all__ = ["run"]


@click.command("run")
@click.argument("recipe", shell_complete=recipes_and_files)
@click.argument("overrides", nargs=-1, shell_complete=key_values)
@click.option("--nproc", type=click.IntRange(min=1), help="Processes on this machine; default: its GPUs, else 1.")
@click.option("--dry-run", is_flag=True, help="Print configuration and plan, check everything, start nothing.")
@click.option("--fresh", is_flag=True, help="Take a new run directory instead of resuming; nothing is deleted.")
@click.option(
    "--max-restarts",
    type=click.IntRange(min=0),
    default=0,
    help="Start again and resume, at most so often, when a process dies or hangs.",
)
@click.option("--verify", is_flag=True, help="Compare checksums of the whole checkpoint before resuming from it.")
@click.option("--output-root", type=click.Path(path_type=Path, file_okay=False), help="Parent of run directories.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON.")
@click.pass_obj
def run(
    plugins: PluginManager,
    recipe: str,
    overrides: tuple[str, ...],
    nproc: int | None,
    dry_run: bool,
    fresh: bool,
    max_restarts: int,
    verify: bool,
    output_root: Path | None,
    as_json: bool,
) -> int:
    """Run RECIPE (a name or a file); run the same command again to resume.

    OVERRIDES are key=value pairs; the right side is TOML, or a bare string.

    \b
    Examples:
      cosmos run vision_sft_demo
      cosmos run vision_sft_nano --nproc 8 optimizer.lr=5e-5
      cosmos run vision_sft_nano --nproc 8 --max-restarts 3
      cosmos run ./my_recipe.toml --dry-run --json
      torchrun --nproc-per-node 8 -m cosmos_core run vision_sft_nano
    """
    from cosmos_core.cli.output import print_notes
    from cosmos_core.launch.devices import visible_gpus
    from cosmos_core.launch.outcome import EXIT_CODES
    from cosmos_core.launch.stop import StopRequests
    from cosmos_core.launch.train import plan_run, start_run

    if launched_rank() is not None and (nproc is not None or fresh or max_restarts):
        raise click.UsageError(
            "--nproc, --fresh and --max-restarts cannot be used under torchrun, which starts the processes itself"
        )
    if as_json and not dry_run:
        raise click.UsageError("--json needs --dry-run; a run writes its metrics to metrics.jsonl")
    stop = StopRequests()
    with nullcontext() if dry_run else stop.listening(until_exit=True):
        plan = plan_run(
            recipe,
            overrides,
            plugins=plugins,
            nproc=nproc,
            default_nproc=max(visible_gpus(), 1),
            fresh=fresh,
            max_restarts=max_restarts,
            output_root=output_root,
            notify=lambda note: print_notes([note]),
            verify=True if verify else False if dry_run else None,
        )
        if dry_run:
            _print_plan(plan, as_json)
            return 0
        report = partial(_report, plan)
        outcome = start_run(plan, plugins, stop, recipe=recipe, overrides=overrides, command=sys.argv, ended=report)
    return EXIT_CODES[outcome]


def _print_plan(plan: RunPlan, as_json: bool) -> None:
    from cosmos_core.cli.output import print_json
    from cosmos_core.config.dump import to_plain, to_toml
    from cosmos_core.plan.warnings import warnings

    told = warnings(plan.config, plan.weights)
    if as_json:
        plain = {"config": to_plain(plan.config), "plan": plan.summary()}
        print_json({**plain, "notes": list(plan.completion()), "warnings": told})
        return
    click.echo(to_toml(plan.config))
    for name, text in plan.summary().items():
        click.echo(f"# {name}: {text}")
    for line in (*plan.completion(), *(f"warning: {warning}" for warning in told)):
        click.echo(f"# {line}")
    check = join(("cosmos", "data", "check", *plan.command))
    click.echo(f"# check the data, where samples may be longer than a pack: {check}")


def _report(plan: RunPlan, outcome: str) -> None:
    """The last lines. Where they find no room, the run has ended as it has all the same, and so does the command."""
    from cosmos_core.plan.paths import RunPaths

    paths = RunPaths(plan.run_dir)
    places = {"checkpoints": paths.checkpoints, "metrics": paths.metrics, "report": paths.report}
    there = [f"{name}: {path}" for name, path in places.items() if path.exists()]
    try:
        for line in (*plan.completion(), f"outcome: {outcome}", f"run_dir: {paths.root}", *there):
            click.echo(line)
    except OSError as error:
        text = f"warning: {error.strerror}: standard output; the outcome is '{outcome}', in {paths.root}"
        click.echo(text, err=True)
