"""Every mistake a person may make: one message, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.command import Start, cosmos, metric_records, module

HELLO = ("run", "hello")
SHORT = ("trainer.max_iter=6", "scheduler.cycle_lengths=[6]", "scheduler.warm_up_steps=[1]", "checkpoint.save_iter=2")


def refused(*arguments: str, **env: str) -> str:
    """The message; nothing may have been started."""
    error = cosmos(*arguments, env=env, code=2).stderr
    assert "Traceback" not in error
    assert error.count("error:") == 1
    return error


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("optimizer.lrr=1",), ("unknown key", "'lr'", "command line")),
        (("optimizer.lr=fast",), ("expected a number", "optimizer.lr")),
        (("job.name=${oc.env:NOT_SET_ANYWHERE}",), ("NOT_SET_ANYWHERE", "export")),
        (("scheduler.warm_up_steps=[600]", "scheduler.cycle_lengths=[600]"), ("warm-up", "cycle of 600")),
        (("scheduler.f_max=[1.0, 2.0]",), ("scheduler.f_max", "cycles")),
        (("model.parallelism.data_parallel_shard_degree=3",), ("cannot be 1 processes",)),
        (("dataloader_train.max_samples_per_batch=null",), ("dataloader_train", "no cap on a micro-batch")),
        (("checkpoint.load_path=/nowhere",), ("no such folder: /nowhere",)),
        (("job.name=../elsewhere",), ("folder name",)),
        (("trainer.run_validation=true", "dataloader_val=null"), ("dataloader_val",)),
        (
            ("trainer.callbacks.compile_tokenizer.enabled=true",),
            ("trainer.callbacks.compile_tokenizer: callback 'compile_tokenizer' is for task 'vfm'", "task is 'tiny'"),
        ),
        (("trainer.callbacks.every_n_draw_sample.count=1", "--dry-run"), ("'every_n_draw_sample' is for task 'vfm'",)),
    ],
)
def test_a_wrong_value(overrides: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    error = refused(*HELLO, *overrides, "--output-root", str(tmp_path))
    assert all(word in error for word in words), error
    assert not list(tmp_path.iterdir())


def test_more_processes_than_the_memory_holds_are_not_started(tmp_path: Path) -> None:
    error = refused(*HELLO, "--nproc", "100000", "--output-root", str(tmp_path))
    assert "--nproc: 100000 take at least 19531 GiB of memory" in error
    assert not list(tmp_path.iterdir())


def test_a_recipe_of_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    error = refused("run", "vision_sft_demo", "--output-root", str(tmp_path), COSMOS_DISABLE_PLUGINS="vfm")
    assert "no task 'vfm'" in error
    assert "vfm (disabled)" in error
    assert not list(tmp_path.iterdir())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    cosmos("data", "prepare", "bridge", "--synthetic", "8", "--val", "4", "-o", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_dataset_folder_that_is_empty(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    error = refused("run", "vision_sft_demo", "--output-root", str(tmp_path), DATASET_PATH=str(tmp_path / "data"))
    assert "no such file" in error
    assert "video_dataset_file.jsonl" in error


def test_a_bad_line_in_the_index(data: Path, tmp_path: Path) -> None:
    index = data / "train/video_dataset_file.jsonl"
    lines = index.read_text().splitlines()
    index.write_text("\n".join([*lines[:2], '{"uuid": 7}', "not json", *lines[2:]]) + "\n")
    error = refused("run", "vision_sft_demo", "--output-root", str(tmp_path / "runs"), DATASET_PATH=str(data))
    assert f"{index}:3" in error
    assert f"{index}:4" in error


def test_a_checkpoint_of_another_shape(tmp_path: Path) -> None:
    cosmos(*HELLO, *SHORT, "--output-root", str(tmp_path))
    base = tmp_path / "cosmos3/sft/hello/checkpoints/iter_000000006/model"
    run = (*HELLO, "job.name=other", "model.hidden=32", "--output-root", str(tmp_path))
    error = refused(*run, f"checkpoint.load_path={base}")
    assert "of another shape" in error
    assert "instead of" in error


def test_a_full_disk_while_saving(tmp_path: Path) -> None:
    """A limit on file size stands in for the disk: the system's answer takes the same way through the program."""
    run = (*HELLO, *SHORT, "model.hidden=512", "--output-root", str(tmp_path))
    arguments = [sys.executable, "-m", "cosmos_core", *run, "--nproc", "2"]

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=small)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    checkpoints = tmp_path / "cosmos3/sft/hello/checkpoints"
    assert not list(checkpoints.iterdir())
    again = cosmos(*run)
    assert "outcome: done" in again.stdout


@pytest.mark.ranks
def test_a_lost_rank_is_named(tmp_path: Path, start: Start) -> None:
    long = ("trainer.max_iter=100000", "trainer.run_validation=false", "checkpoint.save_iter=100000")
    process = start(*HELLO, *long, "--nproc", "2", "--output-root", str(tmp_path))
    run_dir = tmp_path / "cosmos3/sft/hello"
    deadline = time.monotonic() + 180
    while not ((run_dir / "metrics.jsonl").exists() and (run_dir / "metrics.jsonl").stat().st_size):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.2)
    os.kill(_worker(process.pid, rank=1), signal.SIGKILL)
    _, error = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "rank 1 was killed by SIGKILL" in error.splitlines()[-1]
    assert "Root Cause" not in error, "torchrun may take a rank for the cause that failed because rank 1 left"


def _worker(parent: int, rank: int) -> int:
    """Process id of a rank, found among the descendants by its environment."""
    import psutil

    for child in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # Some have ended since they were listed.
            if child.environ().get("RANK") == str(rank):
                return child.pid
    raise AssertionError("no such rank")


def test_names_with_the_date_are_resolved_once_for_all_ranks(tmp_path: Path) -> None:
    recipe = tmp_path / "dated.toml"
    recipe.write_text('extends = "hello"\n[job]\nname = "run-${now:%Y-%m-%d_%H-%M-%S-%f}"\n')
    arguments = ("run", str(recipe), *SHORT, "dataloader_train.max_samples_per_batch=8")
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cosmos_core")
    module(*torchrun, *arguments, "--output-root", str(tmp_path / "runs"))
    (run_dir,) = (tmp_path / "runs/cosmos3/sft").iterdir()
    assert f'name = "{run_dir.name}"' in (run_dir / "config.toml").read_text()
    assert len([record for record in metric_records(run_dir) if "loss" in record]) == 6
