"""From step 10 on a row tells where the step went; a profile is a trace that viewers open."""

from __future__ import annotations

import gzip
import json
import pickle
import time
from pathlib import Path

import pytest
import torch

from cosmos_core.builtin.config import Console
from cosmos_core.builtin.trackers.console import ConsoleTracker
from cosmos_core.train.timing import PhaseTimes, Utilisation
from tests.unit.train.runs import ready

LONG = ("trainer.max_iter=12", "scheduler.cycle_lengths=[12]", "checkpoint.save_iter=10", "trainer.validation_iter=100")


def test_rows_from_step_ten_on_have_the_phases_and_a_profile_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = "trainer.callbacks.profile={start=4, steps=2, memory=true}"
    trainer, rows = ready(tmp_path, *LONG, profile)
    monkeypatch.setattr(trainer.utilisation, "of", lambda record: {"mfu": 0.5})
    trainer.train()
    steps = {row["step"]: row for row in rows if "loss" in row}
    details = {"time/forward_backward", "time/optimizer"}
    assert all(not details & row.keys() for step, row in steps.items() if step < 10)
    assert all(details <= steps[step].keys() for step in (10, 11, 12))
    assert all(row["mfu"] == 0.5 for row in steps.values())
    assert all(steps[10][name] > 0 for name in details)
    assert steps[10]["time/forward_backward"] + steps[10]["time/optimizer"] < steps[10]["seconds"]
    # The save after step 10 held up what came after it.
    assert [step for step, row in steps.items() if "time/saving" in row] == [11]

    (trace,) = tmp_path.rglob("trace_rank0.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert sum(event.get("name") == "Optimizer.step#AdamW.step" for event in events) == 2


def test_encoding_is_taken_out_of_the_phase_that_it_runs_in() -> None:
    times, begun = PhaseTimes(torch.device("cpu")), time.perf_counter()
    with times.phase("forward_backward"):
        with times.phase("vae"):
            time.sleep(0.05)
        time.sleep(0.01)
    passed, seconds = time.perf_counter() - begun, times.read()
    assert seconds["time/vae"] >= 0.05
    assert seconds["time/forward_backward"] >= 0.01
    assert seconds["time/vae"] + seconds["time/forward_backward"] <= passed


def test_times_go_to_a_loaders_worker_without_what_they_hold() -> None:
    times = PhaseTimes(torch.device("cpu"))
    times.add("saving", 1.0)
    assert pickle.loads(pickle.dumps(times)).read() == {}


def test_the_share_of_the_peak_is_model_flops_over_seconds_devices_and_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    utilisation = Utilisation(torch.device("cuda"), world=2)
    assert utilisation.of({"step": 10, "tflop": 989.0, "seconds": 2.0}) == {"mfu": 0.25}
    assert utilisation.of({"step": 10, "seconds": 2.0}) == {}, "a family that counts no FLOPs"
    assert utilisation.of({"step": 9, "tflop": 989.0, "seconds": 2.0}) == {}, "a step that may compile"


def test_the_console_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"step": 10, "loss": 1.0, "grad_norm": 0.5, "tokens": 10, "seconds": 2.0, "data_wait": 0.1}
    more = {"mfu": 0.4487, "memory_gib": 48.2, "time/forward_backward": 1.2, "time/vae": 0.5}
    tracker = ConsoleTracker(Console())
    tracker._last = 10
    tracker.log({**row, **more})
    captured = capsys.readouterr()
    assert "MFU 44.9%, 48.2 GiB, forward+backward 1.20 s, vae 0.50 s" in captured.out + captured.err
