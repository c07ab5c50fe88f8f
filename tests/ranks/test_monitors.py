"""The monitors write what they promise, on one process and on two, and change no loss."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from tests.command import cosmos, losses

SHORT = ("trainer.max_iter=12", "scheduler.cycle_lengths=[12]", "trainer.validation_iter=6", "checkpoint.save_iter=12")
MONITORS = (
    "trainer.callbacks.norm_monitor.every_n=5",
    "trainer.callbacks.device_monitor.every_n=8",
    "trainer.callbacks.iter_speed.every_n=4",
)


def train(root: Path, *more: str) -> Path:
    cosmos("run", "hello", *SHORT, *more, "--output-root", str(root))
    return root / "cosmos3/sft/hello"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def run_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("monitors"), *MONITORS, "--nproc", str(request.param))


@pytest.mark.ranks
def test_norms_agree_with_the_step_they_were_measured_in(run_dir: Path) -> None:
    rows = lines(run_dir / "norm_monitor/norms.jsonl")
    assert [row["step"] for row in rows] == [1, 6, 11]
    for row in rows:
        assert row["total_grad_l2_norm"] == pytest.approx(losses(run_dir)[row["step"]][1], rel=1e-5)
        assert sum(value**2 for value in row["layers"].values()) ** 0.5 == pytest.approx(row["total_grad_l2_norm"])
        assert row["weight_norm"].keys() == row["grad_norm"].keys()
    assert (run_dir / "norm_monitor/norms.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.ranks
def test_every_rank_has_a_row_of_its_device(run_dir: Path) -> None:
    with (run_dir / "DeviceMonitor/prof_data.csv").open() as file:
        rows = list(csv.DictReader(file))
    ranks = {row["rank"] for row in rows}
    assert ranks in ({"0"}, {"0", "1"})
    assert [row["step"] for row in rows if row["rank"] == "0"] == ["8", "12"]
    assert all(0.05 < float(row["cpu_mem_gb"]) < 64 for row in rows)
    with (run_dir / "DeviceMonitor/summary.csv").open() as file:
        (memory,) = [row for row in csv.DictReader(file) if row["metric"] == "cpu_mem_gb"]
    assert float(memory["min"]) <= float(memory["mean"]) <= float(memory["max"])


@pytest.mark.ranks
def test_speed_is_that_of_the_metrics(run_dir: Path) -> None:
    rows = lines(run_dir / "iter_speed/iter_speed.jsonl")
    assert [row["step"] for row in rows] == [9, 12]
    steps = [row for row in lines(run_dir / "metrics.jsonl") if "loss" in row and 6 <= row["step"] <= 9]
    assert rows[0]["seconds_per_step"] == pytest.approx(sum(row["seconds"] for row in steps) / 4)
    assert 0 <= rows[0]["data_wait_share"] < 1


def test_monitors_change_no_loss(tmp_path: Path) -> None:
    assert losses(train(tmp_path / "with", *MONITORS)) == losses(train(tmp_path / "without"))


@pytest.mark.ranks
@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_schedules_factor_is_logged_every_so_many_steps_by_one_rank(processes: str, tmp_path: Path) -> None:
    done = cosmos(
        *("run", "hello", *SHORT, "scheduler.warm_up_steps=[2]", "scheduler.verbosity_interval=6"),
        *("--nproc", processes, "--output-root", str(tmp_path)),
    )
    found = re.findall(r"step (\d+): learning-rate factor ([\d.e-]+)", done.stderr)
    assert [(int(step), float(value)) for step, value in found] == [(6, 0.654508), (12, 0.0)]
