"""What saves in the background cost training: ``python -m tests.benchmarks.async_save``.

On two GPUs: ``torchrun --nproc-per-node 2 -m tests.benchmarks.async_save``. It trains the toy family with a state of
``--gib``, or any recipe whose data is there: ``... async_save vision_sft_nano KEY=VALUE...``. What training lost is the
time from the start of the step before the save to the start of the third after it, less what so many steps take
otherwise. It waited for less than its own figure says, which the run logs: that counts the host's wait for work that
the device has to do anyway. Slower compares ``--steps`` steps during the save with as many before it, so let ``--pack``
make a step as long as a real one, and a save longer than so many steps. A second save tells what one costs when
everything is warm. ``--foreground`` adds a save that training waits for; without it, the plain write tells what the
disk can do. Each figure is printed when it is known. ``--smoke`` runs the same code with a small state on any machine.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import torch

from cosmos_core.config import RunConfig
from cosmos_core.distributed import Mesh, process_group
from cosmos_core.distributed.reduce import any_rank
from cosmos_core.plan.make import make_plan
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.train import Callback, Trainer
from cosmos_core.train.build import build_trainer, needs_mixed_precision
from cosmos_core.train.checkpointing import load_training_state
from cosmos_core.train.tracker import TrackerGroup
from tests.benchmarks.timing import GIB, show

__all__ = ["main"]

WARM_UP = 2
WINDOW = 3
"""Steps from the one before a save on, in which the host may catch up with the device and run ahead of it again."""
REST = 2 * WINDOW
"""Steps between a save that is complete and the next."""
LONGEST = 10_000
"""Steps by which everything is measured."""
BLOCK = 64 << 20
PLAIN_GIB = 2.0
"""Size of the plain file that tells the disk's speed."""


class Enough(KeyboardInterrupt):
    """Everything is measured; a save under way is not waited for."""


class Measure(Callback):
    """Takes the time of steps, begins to save, tells each figure when it is known, and ends the run at the last."""

    def __init__(self, options: argparse.Namespace, started: float) -> None:
        """started: when this process began to work, by `time.perf_counter`."""
        self.figures: dict[str, float] = {}
        self._steps: int = options.steps
        self._foreground: bool = options.foreground
        self._begun: dict[int, float] = {}
        self._written = Written()
        self._started = started
        self._quiet = self._saved = 0  # Steps: the last that something else disturbed; the last before a save.
        self._which = ""

    def train_start(self, trainer: Trainer) -> None:
        logger = logging.getLogger("cosmos_core.train.saves")
        logger.addHandler(self._written)
        logger.setLevel(logging.INFO)
        self._tell(trainer, "ready after s", time.perf_counter() - self._started)

    def step_start(self, trainer: Trainer) -> None:
        step = trainer.step + 1
        self._begun[step] = time.perf_counter()
        if self._saved and step == self._saved + WINDOW:
            self._tell_lost(trainer)
        if self._which:
            if step == self._saved + WINDOW:
                self._end(trainer)
            return
        if self._saved and step == self._saved + WINDOW + self._steps:
            after, before = self._begun[step] - self._begun[self._saved + WINDOW], self._mean() * self._steps
            self._tell(trainer, f"next {self._steps} slower %", 100 * (after / before - 1))
        if self._written.seconds and "written in s" not in self.figures:
            self._tell(trainer, "training waited ms", 1000 * self._written.waited[0])
            self._tell_written(trainer, "", self._written.seconds[0], self._saved)
            self._quiet = max(step, self._saved + WINDOW + self._steps)

    def step_end(self, trainer: Trainer) -> None:
        step = trainer.step
        if not self._saved:
            if step <= WARM_UP or any_rank(_pins(), trainer.mesh):
                self._quiet = step
            elif step == self._quiet + 1:
                self._tell(trainer, "pinned after s", time.perf_counter() - self._started)
            elif step == self._quiet + 1 + self._steps:
                self._tell(trainer, "s a step", self._mean(step))
                self._save(trainer)
        elif "written in s" in self.figures and not self._which and step == self._quiet + REST:
            self._which = "second save: "
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self._saved = trainer.step
        trainer.saves.save_or_go_on()

    def _tell_lost(self, trainer: Trainer) -> None:
        """Of the newest save."""
        starts = range(self._quiet + 1, self._saved - WINDOW + 1)
        usual = statistics.median(self._begun[start + WINDOW] - self._begun[start] for start in starts)
        lost = self._begun[self._saved + WINDOW] - self._begun[self._saved] - usual
        self._tell(trainer, self._which + "training lost ms", 1000 * lost)

    def _mean(self, last: int | None = None) -> float:
        """Seconds of a step among those before the first save. last: of them, before it."""
        last = last or self._saved
        return (self._begun[last] - self._begun[last - self._steps]) / self._steps

    def _end(self, trainer: Trainer) -> None:
        """With a save that training waits for, if that is asked for."""
        if self._foreground:
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

    def _tell(self, trainer: Trainer, name: str, value: float) -> None:
        self.figures[name] = value
        if trainer.is_main:
            print(f"at {time.perf_counter() - self._started:.1f} s: {name}: {value:.4g}", flush=True)


def _pins() -> bool:
    """Whether memory for saves is still being pinned; a save would wait for it."""
    return any(thread.name == "pin" for thread in threading.enumerate())


class Written(logging.Handler):
    """Seconds that training waited, and those in the background, of each save that is complete."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []
        self.seconds: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "in the background" in str(record.msg) and isinstance(record.args, tuple) and len(record.args) == 3:
            self.waited.append(float(str(record.args[1])))
            self.seconds.append(float(str(record.args[2])))


def measured(
    config: RunConfig, plugins: PluginManager, mesh: Mesh, root: Path, options: argparse.Namespace, started: float
) -> dict[str, float]:
    """Train through two saves in the background."""
    plan = make_plan(config, output_root=root, world=mesh.world, distributions={})
    trainer, measure = build_trainer(plan, plugins, mesh), Measure(options, started)
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
        *("optimizer.lr=1e-6", "trainer.run_validation=false", f"trainer.max_iter={2 * LONGEST}"),
        *(f"checkpoint.save_iter={LONGEST}", "checkpoint.keep_last=1"),
    )
    if options.recipe != "hello":
        return (*fixed, *options.overrides)
    width = 256 if options.smoke else 4096
    layers = max(1, round((48 << 20 if options.smoke else options.gib * GIB) / (4 * width**2 * 16)))
    pack = 32 if options.smoke else options.pack
    # Many small samples are read by workers, as in real recipes: the device would wait for them after a save.
    data = (f"dataloader_train.max_samples_per_batch={pack}", "dataloader_train.num_workers=2")
    size = (f"model.hidden={width}", f"model.layers={layers}", *data)
    return (*fixed, *size, *options.overrides)


def main() -> None:
    """Measure and print."""
    started = time.perf_counter()
    details = logging.getLogger("cosmos_core.checkpoint")  # How long pinning and copies take.
    details.setLevel(logging.DEBUG)
    details.addHandler(logging.StreamHandler(sys.stdout))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="hello")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--gib", type=float, default=23, help="of state, of the toy family")
    parser.add_argument("--pack", type=int, default=1700, help="samples of the toy family in a micro-batch")
    parser.add_argument("--steps", type=int, default=10, help="that are compared on either side of a save")
    parser.add_argument("--foreground", action="store_true", help="save once more, while training waits")
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
        figures = measured(config, plugins, mesh, folder, options, started)
        if mesh.rank == 0:
            shutil.rmtree(folder)
            device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
            show(f"{mesh.world} x {device}; torch {torch.__version__}; disk {speed / 1e9:.2f} GB/s", [figures])


if __name__ == "__main__":
    main()
