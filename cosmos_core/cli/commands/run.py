"""`cosmos run`: from a recipe to a finished run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cosmos_core.config.env import LaunchedRank, launched_rank, output_root, prepare_threads
from cosmos_core.errors import ReportedError
from cosmos_core.launch.devices import visible_gpus
from cosmos_core.plan.layout import RunLayout
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plugin.manager import PluginManager

__all__ = ["run"]


@click.command("run")
@click.argument("recipe")
@click.argument("overrides", nargs=-1)
@click.option("--nproc", type=click.IntRange(min=1), help="Processes on this machine; default: its GPUs, else 1.")
@click.option("--dry-run", is_flag=True, help="Print configuration and plan, check everything, start nothing.")
@click.option("--fresh", is_flag=True, help="Take a new run directory instead of resuming; nothing is deleted.")
@click.option("--output-root", type=click.Path(path_type=Path, file_okay=False), help="Parent of run directories.")
@click.pass_obj
def run(
    plugins: PluginManager,
    recipe: str,
    overrides: tuple[str, ...],
    nproc: int | None,
    dry_run: bool,
    fresh: bool,
    output_root: Path | None,
) -> int:
    """Run RECIPE (a name or a file); run the same command again to resume.

    OVERRIDES are key=value pairs; the right side is TOML, or a bare string.

    \b
    Examples:
      cosmos run vision_sft_demo
      cosmos run vision_sft_nano --nproc 8 optimizer.lr=5e-5
      cosmos run ./my_recipe.toml --dry-run
      torchrun --nproc-per-node 8 -m cosmos_core run vision_sft_nano
    """
    from cosmos_core.launch.tenancy import check_free, tenancy
    from cosmos_core.plan.preflight import preflight

    launched = launched_rank()
    main = launched is None or launched.rank == 0
    plan = _plan(plugins, recipe, overrides, launched, nproc, fresh, output_root)
    if main and not plan.finished:
        preflight(plan, plugins)
    if dry_run:
        _print_plan(plan)
        return 0
    if plan.finished:
        if main:
            check_free(RunLayout(plan.run_dir))
            click.echo("\n".join(plan.completion()))
            _report(plan, "done")
        return 0
    if not main:
        return _start(plan, plugins, launched)
    from cosmos_core.plan.record import record_run

    with tenancy(RunLayout(plan.run_dir)):
        plan = record_run(plan, command=sys.argv, recipe=recipe, overrides=overrides)
        return _start(plan, plugins, launched)


def _plan(
    plugins: PluginManager,
    recipe: str,
    overrides: tuple[str, ...],
    launched: LaunchedRank | None,
    nproc: int | None,
    fresh: bool,
    root: Path | None,
) -> RunPlan:
    from cosmos_core.cli.output import print_notes
    from cosmos_core.plan.make import make_plan
    from cosmos_core.recipes.loading import resolve

    if launched is not None and (nproc is not None or fresh):
        raise click.UsageError("--nproc and --fresh cannot be used under torchrun, which starts the processes itself")
    world = launched.world if launched is not None else nproc or max(visible_gpus(), 1)
    resolved = resolve(recipe, overrides, plugins=plugins)
    if launched is None or launched.rank == 0:
        print_notes(resolved.notes)
    parent = root if root is not None else output_root()
    return make_plan(resolved.config, output_root=parent, world=world, distributions=plugins.distributions, fresh=fresh)


def _print_plan(plan: RunPlan) -> None:
    from cosmos_core.config.dump import to_toml
    from cosmos_core.plan.warnings import warnings

    click.echo(to_toml(plan.config))
    for name, text in plan.summary().items():
        click.echo(f"# {name}: {text}")
    for line in (*plan.completion(), *(f"warning: {warning}" for warning in warnings(plan))):
        click.echo(f"# {line}")


def _start(plan: RunPlan, plugins: PluginManager, launched: LaunchedRank | None) -> int:
    from cosmos_core.launch.outcome import EXIT_CODES, read_outcome
    from cosmos_core.launch.supervisor import launch

    main = launched is None or launched.rank == 0
    try:
        if launched is None and plan.degrees.world > 1:
            assert plan.launch is not None
            outcome = launch(plan.run_dir, plan.launch, plan.degrees.world)
        else:
            prepare_threads()
            from cosmos_core.train.worker import execute

            outcome = execute(plan, plugins)
    except ReportedError:
        if main:
            _report(plan, read_outcome(RunLayout(plan.run_dir)))
        raise
    if main:
        _report(plan, outcome)
    return EXIT_CODES[outcome]


def _report(plan: RunPlan, outcome: str) -> None:
    layout = RunLayout(plan.run_dir)
    click.echo(f"outcome: {outcome}")
    click.echo(f"run_dir: {layout.root}")
    click.echo(f"checkpoints: {layout.checkpoints}")
    click.echo(f"metrics: {layout.metrics}")
