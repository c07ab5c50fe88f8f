"""Saves in the background beside saves that training waits for: ``python -m tests.benchmarks.async_save``.

On two GPUs: ``torchrun --nproc-per-node 2 -m tests.benchmarks.async_save``. It trains the toy family with a state of
``--gib``, or any recipe whose data is there: ``... async_save vision_sft_nano KEY=VALUE...``. Blocked is the time
between two steps with a save, less that without one; slower compares the 20 steps after the save with the 20 before it,
so let ``--pack`` make a step as long as a real one. A second save tells what one costs when everything is warm. Each
figure is printed when it is known. ``--smoke`` runs the same code with a small state on any machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

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
from tests.benchmarks.timing import GIB, show

__all__ = ["main"]

STEPS = 20
"""Steps that are compared on either side of a save."""
WARM_UP = 2
INTERVAL = WARM_UP + STEPS
BLOCK = 64 << 20
PLAIN_GIB = 2.0
"""Size of the plain file that tells the disk's speed."""


class Enough(KeyboardInterrupt):
    """Everything is measured; a save under way is not waited for."""


class Measure(Callback):
    """Takes the time of every step, tells each figure when it is known, and ends the run after the last."""

    def __init__(self, started: float) -> None:
        """started: when this process began to work, by `time.perf_counter`."""
        self.figures: dict[str, float] = {}
        self._begun: dict[int, float] = {}
        self._ended: dict[int, float] = {}
        self._written = Written()
        self._started = started
        self._waiting = False

    def train_start(self, trainer: Trainer) -> None:
        logger = logging.getLogger("cosmos_core.train.saves")
        logger.addHandler(self._written)
        logger.setLevel(logging.INFO)
        self._tell(trainer, "ready after s", time.perf_counter() - self._started)

    def step_start(self, trainer: Trainer) -> None:
        step = trainer.step + 1
        self._begun[step] = time.perf_counter()
        if step == INTERVAL + 1:
            self._tell(trainer, "s a step", (self._begun[INTERVAL] - self._begun[WARM_UP]) / STEPS)
            self._tell(trainer, "blocked ms", 1000 * (self._pause(INTERVAL) - self._usual_pause()))
        if self._written.seconds and "written in s" not in self.figures:
            self._tell_written(trainer, "", self._written.seconds[0], INTERVAL)
        if step == INTERVAL + 1 + STEPS:
            before, after = (self._begun[first + STEPS] - self._begun[first] for first in (WARM_UP, INTERVAL + 1))
            self._tell(trainer, "next 20 slower %", 100 * (after / before - 1))
        if step == 2 * INTERVAL + 1:
            self._end(trainer)

    def step_end(self, trainer: Trainer) -> None:
        self._ended[trainer.step] = time.perf_counter()
        self._waiting = trainer.step == 2 * INTERVAL and not self._written.seconds

    def _end(self, trainer: Trainer) -> None:
        """After the second save began: what that cost, then one that training waits for."""
        if not self._waiting:  # For the first, which the second waits for.
            self._tell(trainer, "second save: blocked ms", 1000 * (self._pause(2 * INTERVAL) - self._usual_pause()))
        trainer.saves.close()
        begun = time.perf_counter()
        trainer.save()
        self._tell_written(trainer, "in the foreground: ", time.perf_counter() - begun, trainer.step)
        raise Enough

    def _tell_written(self, trainer: Trainer, which: str, seconds: float, step: int) -> None:
        files = trainer.paths.iteration(step).rglob("*")
        size = sum(path.stat().st_size for path in files if path.is_file())
        for name, value in (("written in s", seconds), ("GiB", size / GIB), ("GB/s", size / seconds / 1e9)):
            self._tell(trainer, which + name, value)

    def _pause(self, step: int) -> float:
        """Between a step and the next."""
        return self._begun[step + 1] - self._ended[step]

    def _usual_pause(self) -> float:
        return statistics.median(self._pause(step) for step in range(WARM_UP, INTERVAL))

    def _tell(self, trainer: Trainer, name: str, value: float) -> None:
        self.figures[name] = value
        if trainer.is_main:
            print(f"{name}: {value:.4g}", flush=True)


class Written(logging.Handler):
    """Seconds in the background, of each save that is complete."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "in the background" in str(record.msg) and isinstance(record.args, tuple) and len(record.args) == 3:
            self.seconds.append(float(str(record.args[2])))


def measured(config: RunConfig, plugins: PluginManager, mesh: Mesh, root: Path, started: float) -> dict[str, float]:
    """Train through two saves in the background, then save in the foreground."""
    plan = make_plan(config, output_root=root, world=mesh.world, distributions={})
    trainer, measure = build_trainer(plan, plugins, mesh), Measure(started)
    trainer.callbacks["measure"] = measure
    trainer.trackers = TrackerGroup({})
    load_training_state(trainer, plan.weights)
    with suppress(Enough):
        trainer.train()
    return measure.figures


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
    fixed = (
        *("optimizer.lr=1e-6", "trainer.run_validation=false", f"trainer.max_iter={4 * INTERVAL}"),
        *(f"checkpoint.save_iter={INTERVAL}", "checkpoint.keep_last=1"),
    )
    if options.recipe != "hello":
        return (*fixed, *options.overrides)
    width = 256 if options.smoke else 4096
    layers = max(1, round((48 << 20 if options.smoke else options.gib * GIB) / (4 * width**2 * 16)))
    size = (f"model.hidden={width}", f"model.layers={layers}", f"dataloader_train.max_samples_per_batch={options.pack}")
    return (*fixed, *size, *options.overrides)


def main() -> None:
    """Measure and print."""
    started = time.perf_counter()
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
    with process_group(plan.degrees, mixed_precision=needs_mixed_precision(config.model)) as mesh:
        if mesh.rank == 0:
            root.mkdir(parents=True, exist_ok=True)
            speed = disk_speed(root, int((0.05 if options.smoke else PLAIN_GIB) * GIB))
            print(f"plain write GB/s: {speed / 1e9:.4g}", flush=True)
        folder = root / "async-save"
        figures = measured(config, plugins, mesh, folder, started)
        if mesh.rank == 0:
            shutil.rmtree(folder)
            device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
            show(f"{mesh.world} x {device}; torch {torch.__version__}; disk {speed / 1e9:.2f} GB/s", [figures])


if __name__ == "__main__":
    main()
