"""Saves in the background beside saves that training waits for: ``python -m tests.benchmarks.async_save``.

On two GPUs: ``torchrun --nproc-per-node 2 -m tests.benchmarks.async_save``. It trains the toy family with a state of
``--gib``, or any recipe whose data is there: ``... async_save vision_sft_nano KEY=VALUE...``. Both ways train in one
process, one after the other. Blocked is the time between two steps with a save, less that without one; slower compares
the 20 steps after the save with the 20 before it, so let ``--pack`` make a step as long as a real one. ``--smoke`` runs
the same code with a small state on any machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from cosmos_core.config import RunConfig
from cosmos_core.distributed import Mesh, process_group
from cosmos_core.plan.make import make_plan
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.train import Callback, Trainer
from cosmos_core.train.build import build_trainer, needs_mixed_precision
from cosmos_core.train.checkpointing import load_training_state
from cosmos_core.train.tracker import TrackerGroup
from tests.benchmarks.timing import GIB, clear, show, synchronise

__all__ = ["main"]

STEPS = 20
"""Steps that are compared on either side of a save."""
WARM_UP = 10
BLOCK = 64 << 20


class Clock(Callback):
    """When each step began and ended, by its number."""

    def __init__(self) -> None:
        self.begun: dict[int, float] = {}
        self.ended: dict[int, float] = {}

    def step_start(self, trainer: Trainer) -> None:
        self.begun[trainer.step + 1] = time.perf_counter()

    def step_end(self, trainer: Trainer) -> None:
        self.ended[trainer.step] = time.perf_counter()

    def seconds(self, first: int) -> float:
        """Of so many steps from `first` on, with the pauses between them but the one before."""
        return self.begun[first + STEPS] - self.begun[first]

    def pause(self, step: int) -> float:
        """Between a step and the next."""
        return self.begun[step + 1] - self.ended[step]


class Told(logging.Handler):
    """Seconds in the background, of each save."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "in the background" in str(record.msg) and isinstance(record.args, tuple) and len(record.args) == 3:
            self.seconds.append(float(str(record.args[2])))


def measured(config: RunConfig, plugins: PluginManager, mesh: Mesh, root: Path, way: str) -> dict[str, Any]:
    """Train through two saves, the second of which counts."""
    plan = make_plan(config, output_root=root, world=mesh.world, distributions={})
    trainer, clock, told = build_trainer(plan, plugins, mesh), Clock(), Told()
    trainer.callbacks["clock"] = clock
    trainer.trackers = TrackerGroup({})
    load_training_state(trainer, plan.weights)
    logger = logging.getLogger("cosmos_core.train.saves")
    logger.addHandler(told)
    logger.setLevel(logging.INFO)
    trainer.train()
    synchronise()
    logger.removeHandler(told)
    save = config.checkpoint.save_iter * 2
    pause = statistics.median(clock.pause(step) for step in range(save - STEPS, save))
    blocked = clock.pause(save) - pause
    size = sum(path.stat().st_size for path in trainer.paths.iteration(trainer.max_iter).rglob("*") if path.is_file())
    seconds = told.seconds[-1] if told.seconds else blocked
    before, after = clock.seconds(save - STEPS), clock.seconds(save + 1) - pause
    return {
        "way": way,
        "state GiB": size / GIB,
        "s a step": before / STEPS,
        "blocked ms": 1000 * blocked,
        "next 20 slower %": 100 * (after / before - 1),
        "written in s": seconds,
        "GB/s": size / seconds / 1e9,
    }


def disk_speed(folder: Path, size: int) -> float:
    """Bytes a second that a plain write with a sync at its end takes."""
    block = os.urandom(BLOCK)
    begun = time.perf_counter()
    with (folder / "plain").open("wb") as file:
        for _ in range(max(1, size // BLOCK)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    speed = max(BLOCK, size // BLOCK * BLOCK) / (time.perf_counter() - begun)
    (folder / "plain").unlink()
    return speed


def settings(options: argparse.Namespace) -> tuple[str, ...]:
    """What makes the recipe one to measure."""
    interval = WARM_UP + STEPS + STEPS
    fixed = (
        *("optimizer.lr=1e-6", "trainer.run_validation=false", f"trainer.max_iter={2 * interval + STEPS + 2}"),
        *(f"checkpoint.save_iter={interval}", "checkpoint.keep_last=1"),
    )
    if options.recipe != "hello":
        return (*fixed, *options.overrides)
    width = 256 if options.smoke else 4096
    layers = max(1, round((48 << 20 if options.smoke else options.gib * GIB) / (4 * width**2 * 16)))
    size = (f"model.hidden={width}", f"model.layers={layers}", f"dataloader_train.max_samples_per_batch={options.pack}")
    return (*fixed, *size, *options.overrides)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="hello")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--gib", type=float, default=23, help="of state, of the toy family")
    parser.add_argument("--pack", type=int, default=32, help="samples of the toy family in a micro-batch")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the system's for temporary files")
    options = parser.parse_args()
    plugins, root = PluginManager.discover(), options.folder or Path(tempfile.gettempdir())
    config = load(options.recipe, settings(options), plugins=plugins)
    plan = make_plan(config, output_root=root, world=int(os.environ.get("WORLD_SIZE", "1")), distributions={})
    rows = []
    with process_group(plan.degrees, mixed_precision=needs_mixed_precision(config.model)) as mesh:
        for way in ("background", "foreground"):
            folder = root / f"async-save-{way}"
            answer = f"checkpoint.async_save={str(way == 'background').lower()}"
            config = load(options.recipe, (*settings(options), answer), plugins=plugins)
            rows.append(measured(config, plugins, mesh, folder, way))
            if mesh.rank == 0:
                print(rows[-1], flush=True)
                shutil.rmtree(folder)
            clear()
        if mesh.rank == 0:
            device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
            speed = disk_speed(root, int(min(rows[0]["state GiB"], 4.0) * GIB))
            show(f"{mesh.world} x {device}; torch {torch.__version__}; disk {speed / 1e9:.2f} GB/s", rows)


if __name__ == "__main__":
    main()
