"""One fault after another on runs that are resumed until they end."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import psutil

from cosmos_core.plan.checkpoint import latest_complete
from cosmos_core.plan.manifest import damage, verify
from tests.command import losses, metric_records
from tests.started import ForkedCosmos
from tests.storm.faults import DISK, FAULTS, damage_newest

__all__ = ["Storm"]

STEPS = 40
RUN = (
    "run",
    "hello",
    f"trainer.max_iter={STEPS}",
    f"scheduler.cycle_lengths=[{STEPS}]",
    "trainer.run_validation=false",
    "checkpoint.save_iter=5",
    "checkpoint.keep_last=4",
    "checkpoint.fallback=true",
    "model.noise=0.3",
    "optimizer.lr=1e-3",
    "model.hidden=320",
    "model.layers=3",
    "trainer.grad_accum_iter=2",
    "dataloader_train.num_workers=1",
)
KILLED = -signal.SIGKILL
EXPECTED = {
    "kill a rank": {0, 1, KILLED},
    "kill all ranks": {0, 1, KILLED},
    "kill a saver": {0},
    "kill the launcher": {0, KILLED},
    "stop a rank": {0, 1, 75, KILLED},
    "signal the group": {0, 75, 130},
    "signal every process": {0, 75, 130},
    "full disk": {0, 2},
    "damaged checkpoint": {0, KILLED},
}
"""Exit codes that each fault may lead to."""
LONGEST = 180.0


class Storm:
    """forked: start commands with their imports done. faults: each with whether it came during a save. lost: what went
    wrong, in words. rows: compared; differing: of these.
    """

    def __init__(self, folder: Path, seed: int, ranks: Sequence[int], *, forked: bool = False) -> None:
        self.faults: list[tuple[str, bool]] = []
        self.lost: list[str] = []
        self.rows = self.differing = 0
        self._folder, self._ranks, self._random, self._forked = folder, ranks, Random(seed), forked
        self._expected: dict[int, dict[int, tuple[float, float]]] = {}
        self._running: dict[int, int] = {}
        self._started = 0.0

    def trial(self) -> str:
        """One fault; what it was and how the command ended."""
        ranks = self._random.choice(list(self._ranks))
        root = self._root(ranks)
        run_dir = root / "cosmos3/sft/hello"
        damaged = self._random.random() < 0.15 and damage_newest(run_dir / "checkpoints", self._random)
        starved = not damaged and self._random.random() < 0.1
        process = self._start(ranks, root, starved=starved)
        if damaged or starved:
            fault, saving = ("damaged checkpoint" if damaged else "full disk"), starved
            if damaged:
                self._wait(lambda: self._stepped(run_dir), process)
                process.kill()
        else:
            saving = self._random.random() < 0.5
            fault = self._random.choice(list(FAULTS))
            if self._wait_for_moment(run_dir, process, saving=saving):
                FAULTS[fault](process, self._random)
        code = self._ended(process)
        self.faults.append((fault, saving))
        said = f"{fault}{' in a save' if saving else ''}, {ranks} ranks: exit {code}"
        if code not in EXPECTED[fault]:
            self.lost.append(f"{said}; the log of its run ends with\n{(root / 'log').read_text()[-1500:]}")
        self._judge(said, run_dir)
        if code == 0:
            self._compare(ranks, root)
        return said

    def finish(self) -> None:
        """Let every run that is under way come to its end."""
        for ranks in list(self._running):
            root = self._root(ranks)
            code = self._ended(self._start(ranks, root))
            if code != 0:
                self.lost.append(f"a run of {ranks} ranks could not be finished: exit {code}; see {root}/log")
            else:
                self._compare(ranks, root)

    def _root(self, ranks: int) -> Path:
        """The output root of the run of so many ranks that is under way."""
        number = self._running.setdefault(ranks, 0)
        root = self._folder / f"{ranks}-{number}"
        root.mkdir(exist_ok=True)
        return root

    def _start(self, ranks: int, root: Path, *, starved: bool = False) -> subprocess.Popen[str]:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (DISK, DISK))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        self._started = time.time()
        beside = f"checkpoint.async_save={str(self._random.random() < 0.5).lower()}"
        options = (beside, "--nproc", str(ranks), "--output-root", str(root))
        forked = self._forked and not starved
        command = [*RUN, *options] if forked else [sys.executable, "-m", "cosmos_core", *RUN, *options]
        with (root / "log").open("a") as log:
            return (ForkedCosmos if forked else subprocess.Popen)(
                command,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
                preexec_fn=limit if starved else None,
            )

    def _wait_for_moment(self, run_dir: Path, process: subprocess.Popen[str], *, saving: bool) -> bool:
        """Until a random moment, or a random one of a save; false when the run ended before."""
        if not self._wait(lambda: self._stepped(run_dir), process):
            return False
        if saving:
            hidden = lambda: any((run_dir / "checkpoints").glob(".iter_*.partial"))  # noqa: E731
            if not self._wait(hidden, process):
                return False
            time.sleep(self._random.uniform(0, 0.05))
        else:
            time.sleep(self._random.uniform(0, 1.0))
        return process.poll() is None

    def _stepped(self, run_dir: Path) -> bool:
        """Whether this launch has trained a step."""
        try:
            return (run_dir / "metrics.jsonl").stat().st_mtime > self._started
        except OSError:
            return False

    def _wait(self, condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
        deadline = time.monotonic() + LONGEST
        while not condition():
            if process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def _ended(self, process: subprocess.Popen[str]) -> int:
        """The exit code, after everything below it is gone too."""
        members = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        try:
            code = process.wait(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
            self.lost.append(f"a command did not end within {LONGEST:.0f} s")
        _, alive = psutil.wait_procs(members, timeout=60)
        if alive:
            self.lost.append(f"{len(alive)} processes outlived their launcher")
            for member in alive:
                member.kill()
        return code

    def _judge(self, said: str, run_dir: Path) -> None:
        """The newest checkpoint must be whole."""
        newest = latest_complete(run_dir / "checkpoints")
        if newest is not None and not damage(newest) and verify(newest):
            self.lost.append(f"{said}: {newest.name} is damaged")

    def _compare(self, ranks: int, root: Path) -> None:
        """Compare a run that ended with one that nothing happened to, then begin another."""
        if ranks not in self._expected:
            whole = self._folder / f"{ranks}-whole"
            whole.mkdir()
            if self._ended(self._start(ranks, whole)) != 0:
                raise RuntimeError((whole / "log").read_text())
            self._expected[ranks] = losses(whole / "cosmos3/sft/hello")
        run_dir = root / "cosmos3/sft/hello"
        got, expected = losses(run_dir), self._expected[ranks]
        repeated = len([record for record in metric_records(run_dir) if "loss" in record]) - len(got)
        self.rows += len(expected)
        self.differing += sum(got.get(step) != row for step, row in expected.items()) + max(repeated, 0)
        shutil.rmtree(root)
        self._running[ranks] += 1
