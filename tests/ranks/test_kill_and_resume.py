"""Killed at any moment, a run continues to the uninterrupted run's losses, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from cosmos_core.config.structure import read_resolved
from cosmos_core.plugin import PluginManager
from cosmos_core.train.load_for_eval import load_for_eval
from tests.command import Start, cosmos, losses, metric_records

RUN = (
    "trainer.max_iter=24",
    "scheduler.cycle_lengths=[24]",
    "trainer.validation_iter=6",
    "checkpoint.save_iter=6",
    "model.noise=0.3",
    "trainer.grad_accum_iter=2",
    "dataloader_train.max_samples_per_batch=5",
    "dataloader_train.dataset.broken=9",
    "dataloader_train.max_bad_sample_fraction=0.5",
)
SLOW = ("model.hidden=512", "model.layers=4")
"""Steps long enough to be hit by a signal, and a state that is saved in the background."""
WAITING = (*SLOW, "checkpoint.async_save=false")
"""Saves that training waits for."""


def arguments(root: Path, name: str, *extra: str) -> tuple[str, ...]:
    return ("run", "hello", f"job.name={name}", *RUN, *extra, "--output-root", str(root))


def directory(root: Path, name: str) -> Path:
    return root / "cosmos3/sft" / name


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1][-4000:]
        assert time.monotonic() < deadline, "it took longer than two minutes"
        time.sleep(0.01)


def reached(run_dir: Path, step: int, *, saved: int | None = None) -> Callable[[], bool]:
    """Whether a run has trained `step` and has the checkpoint of the step `saved`."""

    def check() -> bool:
        if saved is not None and not (run_dir / f"checkpoints/iter_{saved:09d}").is_dir():
            return False
        try:
            return any(record["step"] >= step for record in metric_records(run_dir) if "loss" in record)
        except (OSError, ValueError):
            return False

    return check


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    cosmos(*arguments(root, "whole", *SLOW))
    return directory(root, "whole")


def same_weights(first: Path, second: Path) -> bool:
    plugins = PluginManager.discover()
    ours, theirs = (load_for_eval(run, plugins=plugins)[1].state_dict() for run in (first, second))
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_killed_between_saves_and_resumed_equals_uninterrupted(
    uninterrupted: Path, tmp_path: Path, start: Start
) -> None:
    run_dir = directory(tmp_path, "killed")
    process = start(*arguments(tmp_path, "killed", *SLOW), forked=True)
    wait_for(reached(run_dir, 8, saved=6), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert max(record["step"] for record in metric_records(run_dir)) < 24
    printed = cosmos(*arguments(tmp_path, "killed", *SLOW))
    assert "resume from" in printed.stderr
    assert losses(run_dir) == losses(uninterrupted)
    validations = [
        [(r["step"], r["val_loss"]) for r in metric_records(d) if "val_loss" in r] for d in (run_dir, uninterrupted)
    ]
    assert validations[0] == validations[1]
    assert same_weights(run_dir, uninterrupted)


def test_killed_while_saving_leaves_the_last_good_checkpoint(uninterrupted: Path, tmp_path: Path, start: Start) -> None:
    run_dir = directory(tmp_path, "saving")
    process = start(*arguments(tmp_path, "saving", *SLOW), forked=True)
    hidden = run_dir / "checkpoints/.iter_000000012.partial"
    wait_for(lambda: hidden.exists() or (run_dir / "checkpoints/iter_000000012").exists(), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    cosmos(*arguments(tmp_path, "saving", *SLOW))
    assert losses(run_dir) == losses(uninterrupted)
    assert not list((run_dir / "checkpoints").glob(".*"))


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 75, "stopped"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_saves_and_exits(
    uninterrupted: Path, tmp_path: Path, number: signal.Signals, code: int, word: str, start: Start
) -> None:
    run_dir = directory(tmp_path, "stopped")
    process = start(*arguments(tmp_path, "stopped", *WAITING), forked=True)
    wait_for(reached(run_dir, 3), process)
    process.send_signal(number)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == code
    assert "ends at once, without saving" in stderr
    outcome = json.loads((run_dir / "outcome.json").read_text())
    assert outcome["outcome"] == word
    latest = (run_dir / "checkpoints/latest_checkpoint.txt").read_text().strip()
    assert latest == f"iter_{outcome['step']:09d}"
    cosmos(*arguments(tmp_path, "stopped", *WAITING))
    assert losses(run_dir) == losses(uninterrupted)


@pytest.mark.ranks
def test_two_ranks_stop_on_a_signal_and_resume_exactly(tmp_path: Path, start: Start) -> None:
    both = ("--nproc", "2", "trainer.logging_iter=2", "trainer.max_iter=12", "scheduler.cycle_lengths=[12]", *WAITING)
    cosmos(*arguments(tmp_path, "whole", *both))
    run_dir = directory(tmp_path, "stopped")
    process = start(*arguments(tmp_path, "stopped", *both), forked=True)
    wait_for(reached(run_dir, 3), process)
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 75
    assert stderr.count("ends at once, without saving") == 1
    assert all((run_dir / f"logs/rank_{rank}.log").read_text().count("launch 1: rank") == 1 for rank in (0, 1))
    assert json.loads((run_dir / "outcome.json").read_text())["step"] < 12
    cosmos(*arguments(tmp_path, "stopped", *both))
    assert losses(run_dir) == losses(directory(tmp_path, "whole"))


def test_resume_with_another_model_is_refused(tmp_path: Path) -> None:
    short = ("trainer.max_iter=10", "scheduler.cycle_lengths=[10]")
    cosmos(*arguments(tmp_path, "first", *short))
    old = directory(tmp_path, "first") / "checkpoints"
    done = cosmos(*arguments(tmp_path, "second", "model.hidden=24", f"checkpoint.load_path={old}"), code=2)
    assert "model.hidden" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_warm_start_takes_weights_alone(tmp_path: Path) -> None:
    short = ("trainer.max_iter=10", "scheduler.cycle_lengths=[10]")
    cosmos(*arguments(tmp_path, "first", *short))
    base = directory(tmp_path, "first") / "checkpoints/iter_000000010/model"
    printed = cosmos(*arguments(tmp_path, "warm", *short, f"checkpoint.load_path={base}", "optimizer.lr=0.0"))
    assert "warm from" in printed.stderr
    plugins = PluginManager.discover()
    config = read_resolved(directory(tmp_path, "warm") / "config.toml", plugins.registry)
    assert config.optimizer.lr == 0
    first = load_for_eval(directory(tmp_path, "first"), plugins=plugins, weights="live")[1].state_dict()
    warm = load_for_eval(directory(tmp_path, "warm"), plugins=plugins, weights="live")[1].state_dict()
    assert all(torch.equal(first[name], warm[name]) for name in first)
    assert min(losses(directory(tmp_path, "warm"))) == 1


def test_ranks_end_with_the_command_that_started_them(tmp_path: Path, start: Start) -> None:
    run_dir = directory(tmp_path, "orphans")
    process = start(*arguments(tmp_path, "orphans", *SLOW, "trainer.max_iter=100000"), "--nproc", "2", forked=True)
    wait_for(reached(run_dir, 2), process)
    ranks = psutil.Process(process.pid).children(recursive=True)
    assert len(ranks) >= 3
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(ranks, timeout=60)
    assert not alive


def test_a_run_directory_is_used_by_one_launch_at_a_time(tmp_path: Path, start: Start) -> None:
    run_dir, command = directory(tmp_path, "let"), arguments(tmp_path, "let", *SLOW, "trainer.max_iter=100000")
    process = start(*command, forked=True)
    wait_for(reached(run_dir, 2), process)
    before = (run_dir / "launch_info.yaml").read_bytes()
    refused = cosmos(*command, "optimizer.lr=1.0", code=2).stderr
    assert f"process {process.pid} on" in refused
    assert "--fresh" in refused
    assert (run_dir / "launch_info.yaml").read_bytes() == before
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 75
    assert "resume from" in cosmos(*command, f"trainer.max_iter={metric_records(run_dir)[-1]['step'] + 1}").stderr


@pytest.mark.ranks
def test_no_rank_outlives_a_launcher_that_is_killed_while_they_start(tmp_path: Path, start: Start) -> None:
    for moment in (0.8, 3.0):
        root = tmp_path / str(moment)
        process = start(*arguments(root, "orphans", "--nproc", "2", "dataloader_train.num_workers=1"))
        time.sleep(moment)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 60
        while alive := [each for each in psutil.process_iter(["cmdline"]) if str(root) in str(each.info["cmdline"])]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.1)
        assert not psutil.wait_procs(children, timeout=60)[1]


@pytest.mark.ranks
def test_a_run_that_loses_a_rank_starts_again_and_goes_on_exactly(
    uninterrupted: Path, tmp_path: Path, start: Start
) -> None:
    """One rank stands for all: it equals the run in one process to the last bit."""
    run_dir = directory(tmp_path, "restarted")
    process = start(*arguments(tmp_path, "restarted", *SLOW, "--nproc", "1", "--max-restarts", "2"), forked=True)
    for launch, step in ((1, 8), (2, 14)):
        wait_for(reached(run_dir, step, saved=6), process)
        rank_of(process).kill()
        wait_for((run_dir / f"launches/{launch + 1}").is_dir, process)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 0
    assert "warning: rank 0 was killed by SIGKILL" in stderr
    assert "starting again (2 of at most 2 times)" in stderr
    assert losses(run_dir) == losses(uninterrupted)
    records = [yaml.safe_load((run_dir / f"launches/{n}/launch_info.yaml").read_text()) for n in (1, 2, 3)]
    assert "restart" not in records[0]
    assert [record["restart"]["number"] for record in records[1:]] == [1, 2]
    assert records[1]["restart"]["after"].startswith("rank 0 was killed by SIGKILL")
    assert (records[1]["weights"]["kind"], records[2]["weights"]["kind"]) == ("resume", "resume")
    assert json.loads((run_dir / "outcome.json").read_text())["outcome"] == "done"


@pytest.mark.ranks
def test_torchrun_that_starts_lost_ranks_again_resumes_the_run(tmp_path: Path, start: Start) -> None:
    run_dir = directory(tmp_path, "outer")
    torchrun = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "-m", "cosmos_core")
    process = start(*torchrun, *arguments(tmp_path, "outer", *SLOW), module="torch.distributed.run")
    wait_for(reached(run_dir, 8, saved=6), process)
    ranks = psutil.Process(process.pid).children()
    assert len(ranks) == 2
    ranks[1].kill()
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 0, stderr
    assert list(losses(run_dir)) == list(range(1, 25))
    assert yaml.safe_load((run_dir / "launches/2/launch_info.yaml").read_text())["weights"]["kind"] == "resume"


def rank_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The rank below a launcher and its agent."""
    (agent,) = psutil.Process(process.pid).children()
    (rank,) = agent.children()
    return rank


@pytest.mark.ranks
def test_over_four_one_and_three_ranks_samples_come_once_and_losses_are_those_of_one(
    tmp_path: Path,
) -> None:
    """Two resumes from the middle of an epoch, with workers. The batch of a step stays, so losses do, to rounding."""
    shared = ("trainer.run_validation=false", "checkpoint.save_iter=100", "trainer.log_samples=true", "model.noise=0.3")
    shared += ("dataloader_train.num_workers=1", "dataloader_train.dataset.broken=0")

    def train(name: str, steps: int, nproc: int) -> None:
        batch = f"dataloader_train.max_samples_per_batch={12 // nproc}"
        arguments = ("run", "hello", f"job.name={name}", *shared, batch, f"trainer.max_iter={steps}")
        cosmos(*arguments, "--nproc", str(nproc), "--output-root", str(tmp_path))

    def trained(name: str) -> list[str]:
        files = directory(tmp_path, name).glob("samples_rank*.jsonl")
        return sorted(json.loads(line)["key"] for file in files for line in file.read_text().splitlines())

    for steps, nproc in ((5, 4), (9, 1), (13, 3)):
        train("changing", steps, nproc)
    train("alone", 13, 1)
    assert trained("changing") == trained("alone")
    changing, alone = (losses(directory(tmp_path, name)) for name in ("changing", "alone"))
    assert changing.keys() == alone.keys() == set(range(1, 14))
    for step, (loss, _) in alone.items():
        assert changing[step][0] == pytest.approx(loss, rel=2e-5), step
