"""`cosmos plan`: memory, time and disk of a run before it is started."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cosmos_core.cli.complete import gpu_names, key_values, recipes_and_files
from cosmos_core.cli.options import json_option
from cosmos_core.console.layout import clock, size_text
from cosmos_core.names import counted
from cosmos_core.plugin.manager import PluginManager

if TYPE_CHECKING:
    from cosmos_core.config.run import RunConfig
    from cosmos_core.data.source import MapSource
    from cosmos_core.plan.gpus import Machine
    from cosmos_core.train.costs import Costs

__all__ = ["plan"]

DEFAULT_GPU = "H100-80GB"


@click.command("plan")
@click.argument("recipe", shell_complete=recipes_and_files)
@click.argument("overrides", nargs=-1, shell_complete=key_values)
@click.option("--gpus", shell_complete=gpu_names, help=f"Number and kind, as 8xH100-80GB; default: 1x{DEFAULT_GPU}.")
@click.option("--memory", help="One GPU of another kind with so much memory, as 24GB.")
@json_option
@click.pass_obj
def plan(
    plugins: PluginManager,
    recipe: str,
    overrides: tuple[str, ...],
    gpus: str | None,
    memory: str | None,
    as_json: bool,
) -> None:
    """Tell what RECIPE would take, without a GPU: memory by item, seconds a step, hours, disk.

    Neither data, base nor video tokenizer need be there. Without data, lengths are those of a usual sample.

    \b
    Examples:
      cosmos plan vision_sft_nano --gpus 8xH100-80GB
      cosmos plan llava_ov_packed model.freeze.freeze_llm=true --memory 24GB --json
    """
    from cosmos_core.cli.output import print_json, print_notes
    from cosmos_core.plan.gpus import machine_of, memory_of
    from cosmos_core.plan.plan import WeightSource
    from cosmos_core.plan.warnings import warnings
    from cosmos_core.recipes.loading import resolve
    from cosmos_core.recipes.peek import check_can_run

    if gpus is not None and memory is not None:
        raise click.UsageError("--gpus and --memory exclude each other: a kind of GPU has its memory")
    machine: Machine = machine_of(DEFAULT_GPU if gpus is None else gpus) if memory is None else memory_of(memory)
    check_can_run(recipe)
    resolved = resolve(recipe, overrides, plugins=plugins)
    config = resolved.config
    print_notes(resolved.notes)

    from cosmos_core.train.costs import costs

    planned = costs(config, plugins, machine, data=_data(config, plugins))
    told = warnings(config, WeightSource(kind="scratch"))
    if as_json:
        print_json({**_plain(planned), "warnings": told})
    else:
        click.echo("\n".join([*_lines(planned), *(f"warning: {warning}" for warning in told)]))


def _data(config: RunConfig, plugins: PluginManager) -> MapSource | None:
    """Data that lies on this machine; nothing is fetched."""
    from pathlib import Path

    from cosmos_core.errors import UserError
    from cosmos_core.train.build import open_dataset

    for dataset in config.dataloader_train.datasets.values():
        if dataset.hub_names or (dataset.place is not None and not Path(dataset.place).exists()):
            return None
    try:
        return open_dataset(config.dataloader_train, plugins)
    except UserError:
        return None  # Training tells what is wrong with it; a plan needs none.


def _plain(costs: Costs) -> dict[str, Any]:
    from cosmos_core.plan.costs import GIB

    estimate = costs.case.estimate
    return {
        "gpus": f"{costs.machine.count}x{costs.machine.name}",
        "mode": costs.case.mode,
        "share": costs.case.share,
        "parts": costs.case.parts,
        "trained": estimate.parameters.trained,
        "frozen": estimate.parameters.frozen,
        "lengths": _lengths(costs),
        "peak_gib": round(costs.case.peak, 2),
        "memory_gib": round(costs.machine.memory, 2),
        "items": {name: round(value / GIB, 3) for name, value in costs.case.items.items()},
        "fits": costs.fits,
        "change": costs.change,
        "change_here": costs.change_here,
        "step_seconds": None if costs.seconds is None else [round(value, 3) for value in costs.seconds],
        "workers": costs.workers,
        "tokens_a_step": _tokens(costs),
        "steps_an_epoch": costs.steps_an_epoch,
        "hours": None if costs.hours is None else round(costs.hours, 2),
        "pinned_gib": round(costs.pinned_gib, 2),
        "checkpoint_gib": round(costs.checkpoint_gib, 2),
        "notes": list(estimate.notes),
        "disk_gib": round(costs.checkpoint_gib * costs.num_checkpoints, 2),
    }


def _tokens(costs: Costs) -> int:
    case = costs.case
    return round(case.estimate.tokens * case.degrees.data * case.config.trainer.grad_accum_iter)


def _changes(costs: Costs) -> Iterator[str]:
    from cosmos_core.plan.savings import on_a_command_line

    by = costs.case.peak - costs.machine.memory
    if not costs.change:
        yield f"too much by {by:.1f} GiB; no setting makes it fit: take a smaller model or larger GPUs"
        return
    yield f"too much by {by:.1f} GiB; cheapest change that fits: {on_a_command_line(costs.change)}"
    if costs.change_here and costs.change_here != costs.change:
        yield f"without more GPUs: {on_a_command_line(costs.change_here)}"


def _lengths(costs: Costs) -> str:
    count = costs.case.samples_read
    return f"{counted(count, 'sample')} of the data" if count else "typical sample"


def _lines(costs: Costs) -> Iterator[str]:
    from cosmos_core.plan.costs import GIB
    from cosmos_core.train.costs import described_mode

    case, machine = costs.case, costs.machine
    values, estimate = _plain(costs), case.estimate
    yield f"machine: {values['gpus']}, {machine.memory:.1f} GiB each"
    yield f"parameters: {estimate.parameters.trained:,} trained, {estimate.parameters.frozen:,} frozen"
    yield f"lengths: {values['lengths']}"
    yield f"a usual sample: {estimate.sample}; {estimate.samples:.1f} in a pack"
    yield f"recomputation: {described_mode(case.mode, case.share, case.parts)}{' (auto)' if costs.automatic else ''}"
    yield f"memory on each GPU: {case.peak:.1f} GiB, {'which fits' if costs.fits else 'WHICH DOES NOT FIT'}"
    for name, gib in sorted(values["items"].items(), key=lambda item: -item[1]):
        yield f"  {gib:7.2f}  {name}"
    if not costs.fits:
        yield from _changes(costs)
    yield from estimate.notes
    if costs.workers is not None:
        yield f"loader workers that keep up: {costs.workers} a GPU"
    yield f"tokens a step: {values['tokens_a_step']:,}"
    if costs.steps_an_epoch is not None:
        yield f"steps an epoch: {costs.steps_an_epoch:,}"
    if costs.seconds is not None and costs.hours is not None:
        yield f"seconds a step: {costs.seconds[0]:.2f} to {costs.seconds[1]:.2f}"
        yield f"time for {counted(case.config.trainer.max_iter, 'step')}: about {clock(3600 * costs.hours)}"
    if costs.pinned_gib:
        yield f"pinned memory of the host for saves in the background: {size_text(costs.pinned_gib * GIB)} for each GPU"
    yield f"a checkpoint: {size_text(costs.checkpoint_gib * GIB)}"
    disk = size_text(costs.checkpoint_gib * costs.num_checkpoints * GIB)
    yield f"disk over the run: {disk}, {counted(costs.num_checkpoints, 'checkpoint')} at most"
    if (data := case.config.dataloader_train).fills_cache and case.config.model.uses_latent_cache:
        yield f"latent cache: {data.cache_gib:g} GiB more at most, which all runs share"
