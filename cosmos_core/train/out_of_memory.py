"""The page for a GPU that is out of memory: what was asked for, what was held, the plan, and what helps most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cosmos_core.data.source import MapSource
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.plan.checkpoint import latest_complete
from cosmos_core.plan.costs import GIB
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.savings import Case, on_a_command_line, savings
from cosmos_core.plugin.descriptors import ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.automatic import machine_here
from cosmos_core.train.costs import case_of

__all__ = ["out_of_memory_explained"]

NUM_SETTINGS, NUM_ITEMS = 3, 6


@contextmanager
def out_of_memory_explained(
    plan: RunPlan, plugins: PluginManager, device: torch.device, data: MapSource
) -> Iterator[None]:
    """Raises UserError in place of torch.OutOfMemoryError.

    plan: with the mode of recomputation that trains. data: that it trains on.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        latest = latest_complete(RunPaths(plan.run_dir).checkpoints)
        left = f"the last checkpoint is intact: {latest}" if latest is not None else "no checkpoint was written yet"
        raise UserError(
            f"the GPU's memory ran out; {left}", [_held(error, device), *_planned(plan, plugins, device, data)]
        ) from error


def _held(error: torch.OutOfMemoryError, device: torch.device) -> Problem:
    request = first_line(error).partition(". GPU")[0]
    if device.type != "cuda":
        return Problem(message=request)
    free, total = torch.cuda.mem_get_info(device)
    held, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    others = total - free - reserved
    message = (
        f"{request}; held were {held / GIB:.1f} GiB, kept ready {(reserved - held) / GIB:.1f}, "
        f"taken besides {others / GIB:.1f} (contexts and other processes), of {total / GIB:.1f} GiB"
    )
    hint = "another process may be using this GPU: nvidia-smi" if others > 0.1 * total else ""
    return Problem(message=message, hint=hint)


def _planned(plan: RunPlan, plugins: PluginManager, device: torch.device, data: MapSource) -> Iterator[Problem]:
    """The plan's items, and the settings that save most."""
    family = plugins.registry.get(ModelFamilySpec, plan.config.job.task).family.load()
    machine = machine_here(device, plan.degrees.world)
    memory = None if machine is None else machine.memory
    case = case_of(plan.config, family, plan.degrees.world, memory=memory, data=data)
    if case is None:
        return
    yield Problem(message=f"the plan expected {case.peak:.1f} GiB: {_items(case)}", hint="cosmos plan tells all of it")
    for saving in sorted(savings(case), key=lambda saving: -saving.gib)[:NUM_SETTINGS]:
        yield Problem(message=f"saves about {saving.gib:.1f} GiB", key=on_a_command_line(saving.settings))


def _items(case: Case) -> str:
    largest = sorted(case.items.items(), key=lambda item: -item[1])[:NUM_ITEMS]
    return ", ".join(f"{name} {value / GIB:.1f}" for name, value in largest)
