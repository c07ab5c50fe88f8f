"""Planned memory beside what torch and the driver say, and the plan's constants fitted to it.

`whole_recipe RECIPE --memory-table FILE` prints the table of its modes and adds its rows to FILE, one JSON object a
line. `python -m tests.benchmarks.memory_table FILE` fits `CONSTANTS` to every other row, the rows of all recipes
together, and tells how far the plan is off with the constants as they are and as fitted, on the rows that were fitted
and on the others. A fit that helps only the former is none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from attrs import asdict

import cosmos_core.attention.saved
import cosmos_core.plan.costs
import cosmos_vlm.estimate
from cosmos_core.config import RunConfig
from cosmos_core.data import MapSource
from cosmos_core.plan.costs import GIB
from cosmos_core.plan.gpus import Machine, gpu_of
from cosmos_core.plugin import ModelFamilySpec, PluginManager
from cosmos_core.recipes import load
from cosmos_core.train import ModelFamily
from cosmos_core.train.automatic import settled
from cosmos_core.train.build import open_dataset
from cosmos_core.train.costs import case_of, described_mode
from tests.benchmarks.timing import show
from tests.benchmarks.whole_running import Measured

__all__ = ["CONSTANTS", "QUANTITIES", "fit", "memory_row"]

BESIDE_ALLOCATED = ("allocator reserve", "CUDA context")
CONSTANTS: dict[str, Any] = {
    "RESERVE": cosmos_core.plan.costs,
    "RESERVE_BEFORE": cosmos_core.plan.costs,
    "CONTEXT": cosmos_core.plan.costs,
    "COLLECTIVES": cosmos_core.plan.costs,
    "WORKING_TENSORS": cosmos_core.attention.saved,
    "EAGER_TENSORS": cosmos_vlm.estimate,
}
"""Modules of the constants. The plan is linear in each, or nearly so."""
QUANTITIES = ("allocated", "reserved", "card")
STEP = 1.1
"""Factor on a constant, to see how the plan depends on it."""
ENOUGH = 0.01
"""GiB; a constant on which no row depends more is not fitted."""


def memory_row(
    recipe: str, settings: list[str], world: int, memory: float | None, device: str, measured: Measured | None
) -> dict[str, Any]:
    """A row of the table. settings: of the run, with its mode. memory: GiB of each card. measured: None on a CPU.

    device: the card's name.
    """
    config = load(recipe, settings, plugins=PluginManager.discover())
    if memory is not None:
        config = _settled(config, Machine(device, world, memory, gpu_of(device), world))
    items = _items(config, world, memory)
    planned = _quantities(items)
    slopes = {}
    for name, module in CONSTANTS.items():
        value = vars(module)[name]
        with patch.object(module, name, STEP * value):
            other = _quantities(_items(config, world, memory))
        slopes[name] = {of: (other[of] - planned[of]) / (STEP * value - value) for of in QUANTITIES}
    checkpointing = config.model.activation_checkpointing
    found = {} if measured is None else asdict(measured)
    return {
        "recipe": recipe,
        "mode": described_mode(checkpointing.mode, checkpointing.share, checkpointing.parts),
        "GPUs": world,
        **{f"planned {of}": round(planned[of], 6) for of in QUANTITIES},
        **{of: round(value, 3) for of, value in found.items()},
        **{f"{of} / planned": round(value / planned[of], 3) for of, value in found.items()},
        "items": {name: round(value / GIB, 3) for name, value in items.items()},
        "slopes": slopes,
    }


def _parts(config: RunConfig) -> tuple[type[ModelFamily], MapSource]:
    plugins = PluginManager.discover()
    family: type[ModelFamily] = plugins.registry.get(ModelFamilySpec, config.job.task).family.load()
    return family, open_dataset(config.dataloader_train, plugins)


def _settled(config: RunConfig, machine: Machine) -> RunConfig:
    """With the mode that a run takes there."""
    family, data = _parts(config)
    return settled(config, family, machine, data)


def _items(config: RunConfig, world: int, memory: float | None) -> dict[str, float]:
    family, data = _parts(config)
    case = case_of(config, family, world, memory=memory, data=data)
    assert case is not None
    return case.items


def _quantities(items: dict[str, float]) -> dict[str, float]:
    """GiB of the three measured quantities."""
    reserve, context = (items.get(name, 0.0) / GIB for name in BESIDE_ALLOCATED)
    card = sum(items.values()) / GIB
    return {"allocated": card - reserve - context, "reserved": card - context, "card": card}


def fit(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Constants as they are and as fitted to every other row, and the worst relative error on both halves.

    Rows without measurements are left out. Raises SystemExit with fewer than four.
    """
    rows = [row for row in rows if "card" in row]
    if len(rows) < 4:
        raise SystemExit(f"{len(rows)} measured rows; a fit needs four or more, of several recipes and modes")
    fitted, tested = rows[::2], rows[1::2]
    now = {name: float(vars(module)[name]) for name, module in CONSTANTS.items()}
    slopes, missing = _system(fitted)
    used = [index for index, column in enumerate(slopes.T) if np.abs(column).max() * list(now.values())[index] > ENOUGH]
    # Relative errors count, so that small runs say as much as large ones.
    changes = np.zeros(len(now))
    changes[used] = np.linalg.lstsq(slopes[:, used], missing, rcond=None)[0]
    return {
        "constants": {
            name: (value, value + float(change)) for (name, value), change in zip(now.items(), changes, strict=True)
        },
        "errors": {
            half: (_worst(part, np.zeros(len(now))), _worst(part, changes))
            for half, part in (("fitted", fitted), ("tested", tested))
        },
    }


def _system(rows: list[dict[str, Any]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What a change of each constant adds to each planned quantity, and what is missing, as shares of the measured."""
    cells = [(row, of) for row in rows for of in QUANTITIES]
    slopes = [[row["slopes"][name][of] / row[of] for name in CONSTANTS] for row, of in cells]
    missing = [(row[of] - row[f"planned {of}"]) / row[of] for row, of in cells]
    return np.array(slopes), np.array(missing)


def _worst(rows: list[dict[str, Any]], changes: np.ndarray[Any, Any]) -> float:
    slopes, missing = _system(rows)
    return float(np.abs(missing - slopes @ changes).max())


def main() -> None:
    """Fit the rows of a file, and print constants and errors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    rows = [json.loads(line) for line in parser.parse_args().rows.read_text(encoding="utf-8").splitlines()]
    found = fit(rows)
    constants = found["constants"].items()
    show("constants", [{"constant": name, "now": value, "fitted": new} for name, (value, new) in constants])
    errors = found["errors"].items()
    show("worst error", [{"rows": half, "now": before, "fitted": after} for half, (before, after) in errors])


if __name__ == "__main__":
    main()
