"""Runs tests against a copy of the tree, in a process that is forked from one that has imported the libraries."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

__all__ = ["Job", "Verdict", "copied", "preload", "verdicts"]

FOREIGN_TREE = 99
"""Exit code when the tests would import the source from elsewhere."""
PAUSE = 0.05
"""Seconds between looks at the running trials."""
MEMORY = 8 << 30
"""Bytes a trial may take; a fault may make a list grow without end."""
COPIED = ("cosmos_core", "plugins", "tests", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md", "mkdocs.yml")
OPTIONS = ("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow and not ranks", "--hypothesis-seed", "0")


@dataclass(frozen=True)
class Job:
    """tests: to run. file, text: what one file holds instead; none: the tree as it is. limit: seconds."""

    tests: tuple[str, ...]
    limit: float
    file: str = ""
    text: str = ""


@dataclass(frozen=True)
class Verdict:
    """code: exit code of pytest, None when the time was up. output: what it printed."""

    job: Job
    code: int | None
    seconds: float
    output: str


@dataclass(frozen=True)
class _Trial:
    """original: text of the file with the fault. begun: on the monotonic clock."""

    job: Job
    tree: Path
    process: int
    begun: float
    original: str

    @property
    def ended(self) -> bool:
        """Whether its process has; it is kept as a zombie, so that its number is nobody else's."""
        return os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    @property
    def overdue(self) -> bool:
        return time.monotonic() - self.begun > self.job.limit


def preload(modules: Sequence[str]) -> None:
    """Import libraries once for all trials; those that are not installed are left to the tests."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            continue


def copied(root: Path, tree: Path) -> Path:
    """A copy of what tests need of a tree."""
    tree.mkdir()
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".venv"))
        elif source.is_file():
            shutil.copy2(source, tree / name)
    return tree


def verdicts(trees: Sequence[Path], jobs: Sequence[Job]) -> Iterator[tuple[int, Verdict]]:
    """Run all jobs, one at a time in each copy of the tree; yields place and verdict as they end."""
    free, waiting = list(trees), list(enumerate(jobs))[::-1]
    running: dict[int, _Trial] = {}
    try:
        while waiting or running:
            while waiting and free:
                place, job = waiting.pop()
                running[place] = _start(job, free.pop())
            time.sleep(PAUSE)
            for place, trial in list(running.items()):
                if trial.ended or trial.overdue:
                    del running[place]
                    yield place, _finish(trial)
                    free.append(trial.tree)
    finally:
        for trial in running.values():
            _finish(trial)


def _start(job: Job, tree: Path) -> _Trial:
    original = ""
    if job.file:
        original = (tree / job.file).read_text(encoding="utf-8")
        (tree / job.file).write_text(job.text, encoding="utf-8")
    process = os.fork()
    if process == 0:
        _run(job, tree)
    return _Trial(job, tree, process, time.monotonic(), original)


def _finish(trial: _Trial) -> Verdict:
    """End what the trial started, and put the file right."""
    ended = trial.ended
    try:
        os.killpg(trial.process, signal.SIGKILL)
    except ProcessLookupError:  # It has no group of its own yet.
        os.kill(trial.process, signal.SIGKILL)
    _, status = os.waitpid(trial.process, 0)
    if trial.job.file:
        (trial.tree / trial.job.file).write_text(trial.original, encoding="utf-8")
    # Examples that hypothesis kept would make one trial depend on those before.
    shutil.rmtree(trial.tree / ".hypothesis", ignore_errors=True)
    output = _output(trial.tree)
    text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    code = os.waitstatus_to_exitcode(status) if ended else None
    return Verdict(trial.job, code, time.monotonic() - trial.begun, text)


def _output(tree: Path) -> Path:
    return tree.with_suffix(".txt")


def _run(job: Job, tree: Path) -> NoReturn:
    """In the forked process, which ends with pytest's exit code."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    file = os.open(_output(tree), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    code = 3
    try:
        code = _pytest(job, tree)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _pytest(job: Job, tree: Path) -> int:
    os.chdir(tree)
    roots = [str(tree), *map(str, sorted(tree.glob("plugins/*/src")))]
    os.environ |= {"PYTHONPATH": os.pathsep.join(roots), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    # A file that changes twice within a second would be taken from a stale .pyc.
    sys.dont_write_bytecode = True
    sys.path[:0] = roots
    own = {path.stem for place in roots for path in Path(place).iterdir() if (path / "__init__.py").exists()}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]
    importlib.invalidate_caches()
    for name in own:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not Path(spec.origin).is_relative_to(tree):
            print(f"{name} is imported from {spec and spec.origin}, not from {tree}")
            return FOREIGN_TREE
    import pytest

    return int(pytest.main([*OPTIONS, "--basetemp", str(tree.with_suffix(".tmp")), *job.tests]))
