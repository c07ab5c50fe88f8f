"""`cosmos.train` from Python: results, errors as exceptions, and a process that is left as it was found."""

from __future__ import annotations

import doctest
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import cosmos_core as cosmos
from cosmos_core.config.overrides import parse_overrides
from cosmos_core.config.problems import render
from tests.command import cosmos as command

SHORT = {"trainer.max_iter": 3, "scheduler.cycle_lengths": [3], "scheduler.warm_up_steps": [1]}
LONG = {"trainer.max_iter": 100_000, "checkpoint.save_iter": 100_000, "trainer.validation_iter": 100_000}
GROUP = {"model.precision": "bfloat16"}
"""One process needs a process group for mixed precision."""


def process_state() -> dict[str, Any]:
    root = logging.getLogger()
    return {
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "logging": (list(root.handlers), root.level),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "random": torch.get_rng_state().tolist(),
        "group": torch.distributed.is_initialized(),
    }


def wait_for_step(run_dir: Path, step: int) -> None:
    """Until a run in another thread has finished so many steps."""
    metrics, deadline = run_dir / "metrics.jsonl", time.monotonic() + 180
    while not metrics.is_file() or metrics.read_text().count('"loss"') < step:
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.01)


def test_the_example_of_the_docstring_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGINAIRE_OUTPUT_ROOT", raising=False)
    results = doctest.testmod(import_module("cosmos_core.launch.train"))
    assert (results.failed, results.attempted) == (0, 3)


def test_it_may_be_called_twice_and_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    before = process_state()
    first = cosmos.train("hello", SHORT | GROUP, output_root=tmp_path)
    assert process_state() == before
    second = cosmos.train("hello", SHORT | GROUP, output_root=tmp_path, fresh=True)
    assert process_state() == before
    assert (first.outcome, second.outcome) == ("done", "done")
    assert second.run_dir == tmp_path / "cosmos3/sft/hello-2"
    steps = [[record["loss"] for record in run.metrics if "loss" in record] for run in (first, second)]
    assert len(steps[0]) == 3
    assert steps[0] == steps[1]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    first = cosmos.train("hello", SHORT, output_root=tmp_path)
    assert cosmos.train("hello", SHORT, output_root=tmp_path) == first
    assert [path.name for path in (first.run_dir / "launches").iterdir()] == ["1"]


def test_overrides_are_values_or_command_line_texts(tmp_path: Path) -> None:
    more = {
        "job.group": "it's a = [group]",
        "custom.note": "a\x7fb",
        "trainer.run_validation": False,
        "dataloader_val.cache": None,
    }
    values = SHORT | more | {"optimizer.betas": (0.9, 0.95), "optimizer.lr_multipliers": {"head.weight": 1e-3}}
    run = cosmos.train("hello", values, output_root=tmp_path, nproc=1)
    assert run.run_dir == tmp_path / "cosmos3/it's a = [group]/hello"
    recorded = yaml.safe_load((run.run_dir / "launches/1/launch_info.yaml").read_text())["args_override"]
    parsed = {".".join(override.path): override.value for override in parse_overrides(recorded)}
    assert parsed == values | {"optimizer.betas": [0.9, 0.95]}
    assert cosmos.train("hello", recorded, output_root=tmp_path) == run


def test_a_value_that_no_recipe_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cosmos.UserError) as error:
        cosmos.train("hello", {"scheduler.cycle_lengths": {3}}, output_root=tmp_path)
    assert "scheduler.cycle_lengths: a value of type set cannot be written in a recipe" in render(error.value)


def test_a_mistake_is_an_exception_with_the_commands_text(tmp_path: Path) -> None:
    before = process_state()
    with pytest.raises(cosmos.UserError) as error:
        cosmos.train("hello", ["optimizer.lrr=1"], output_root=tmp_path)
    said = command("run", "hello", "optimizer.lrr=1", "--output-root", str(tmp_path), code=2).stderr
    assert render(error.value) == said.strip()
    assert process_state() == before


def test_a_diverged_run_is_an_exception(tmp_path: Path) -> None:
    before = process_state()
    more = SHORT | GROUP | {"optimizer.lr": 1e18, "trainer.on_nonfinite": "stop", "trainer.max_iter": 6}
    with pytest.raises(cosmos.RunFailed):
        cosmos.train("hello", more, output_root=tmp_path)
    assert process_state() == before


def test_a_process_group_of_the_callers_is_left_alone(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(cosmos.UserError, match="has a process group already"):
            cosmos.train("hello", SHORT, output_root=tmp_path)
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


def test_another_thread_may_train_and_only_one_at_a_time(tmp_path: Path) -> None:
    """Handlers of signals cannot be set there; a file asks to stop."""
    run_dir = tmp_path / "cosmos3/sft/hello"
    with ThreadPoolExecutor() as pool:
        run = pool.submit(cosmos.train, "hello", LONG | GROUP, output_root=tmp_path)
        wait_for_step(run_dir, 2)
        with pytest.raises(cosmos.UserError, match="training already"):
            cosmos.train("hello", SHORT, output_root=tmp_path, fresh=True)
        (run_dir / ".stop_requested").touch()
        assert run.result(180).outcome == "stopped"


def test_an_interrupt_saves_and_returns(tmp_path: Path) -> None:
    run_dir = tmp_path / "cosmos3/sft/hello"

    def interrupt() -> None:
        try:
            wait_for_step(run_dir, 2)
        finally:  # Else the run would go on for all of its steps.
            os.kill(os.getpid(), signal.SIGINT)

    before = process_state()
    thread = threading.Thread(target=interrupt)
    thread.start()
    run = cosmos.train("hello", LONG, output_root=tmp_path)
    thread.join()
    assert process_state() == before
    assert run.outcome == "interrupted"
    done = run.metrics[-1]["step"]
    assert (run_dir / f"checkpoints/iter_{done:09d}").is_dir()


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; import cosmos_core; print(*{name.split('.')[0] for name in sys.modules})"
    bare = subprocess.run([sys.executable, "-c", code.replace("cosmos_core", "sys")], capture_output=True, text=True)
    ours = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    new = set(ours.stdout.split()) - set(bare.stdout.split())
    assert new - set(sys.stdlib_module_names) == {"cosmos_core"}


def test_the_room_of_the_same_name_can_be_called_too() -> None:
    """Importing a room binds its name in the package."""
    import_module("cosmos_core.train.trainer")
    with pytest.raises(cosmos.UserError, match="no recipe 'helo'"):
        cosmos.train("helo")


@pytest.mark.ranks
def test_several_processes_return_and_raise_as_one_does(tmp_path: Path) -> None:
    before = process_state()
    run = cosmos.train("hello", SHORT, output_root=tmp_path, nproc=2)
    assert run.outcome == "done"
    assert [record["step"] for record in run.metrics if "loss" in record] == [1, 2, 3]
    unfit = {"dataloader_val.max_sequence_length": 2}
    with pytest.raises(cosmos.UserError) as error:
        cosmos.train("hello", SHORT | unfit, output_root=tmp_path, nproc=2, fresh=True)
    assert "dataloader_val.max_sequence_length" in render(error.value)
    assert process_state() == before
