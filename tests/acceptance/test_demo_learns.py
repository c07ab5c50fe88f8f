"""The whole demo through the command line: prepare, fine-tune, measure; and that it repeats itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.demo_generator import Figures

ROOT = Path(__file__).resolve().parents[2]
WARM = "scheduler.warm_up_steps=[2]"


def cosmos(*arguments: str, data: Path) -> None:
    environment = {**os.environ, "DATASET_PATH": str(data)}
    done = subprocess.run(
        [sys.executable, "-m", "cosmos_core", *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "bridge_synthetic"
    cosmos("data", "prepare", "bridge", "--synthetic", "768", "-o", str(folder), data=folder)
    return folder


@pytest.fixture(scope="module")
def printed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the measuring script prints about the demo run."""
    output = tmp_path_factory.mktemp("runs")
    cosmos("run", "vision_sft_demo", "--output-root", str(output), data=data)
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.demo_generator", str(output / "cosmos3/sft/vision_sft_demo")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "DATASET_PATH": str(data), "OMP_WAIT_POLICY": "PASSIVE"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    print(done.stdout)
    lines = done.stdout.strip().splitlines()[-len(Figures.__attrs_attrs__) :]
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.slow
def test_held_out_captions_get_their_colour(printed: dict[str, str]) -> None:
    assert float(printed["colour_accuracy"]) >= 0.95
    assert float(printed["colour_accuracy_untrained"]) <= 0.35


@pytest.mark.slow
def test_validation_loss_halves(printed: dict[str, str]) -> None:
    assert float(printed["val_loss_last"]) <= 0.5 * float(printed["val_loss_first"])


@pytest.mark.slow
def test_training_takes_at_most_four_minutes(printed: dict[str, str]) -> None:
    assert float(printed["train_seconds"]) <= 240


@pytest.mark.slow
def test_pictures_and_checkpoints_are_where_the_demo_says(printed: dict[str, str]) -> None:
    for key in ("samples", "loss_curve"):
        assert Path(printed[key]).read_bytes().startswith(b"\x89PNG")
    checkpoints = Path(printed["run_dir"]) / "checkpoints"
    latest = (checkpoints / "latest_checkpoint.txt").read_text().strip()
    assert (checkpoints / latest / "model" / ".metadata").exists()


@pytest.mark.slow
def test_a_second_run_repeats_every_loss(data: Path, tmp_path: Path) -> None:
    rows = []
    for name in ("first", "second"):
        overrides = (
            f"job.name={name}",
            "trainer.max_iter=6",
            "trainer.run_validation=false",
            "trainer.logging_iter=1",
            WARM,
        )
        cosmos("run", "vision_sft_demo", "--output-root", str(tmp_path), *overrides, data=data)
        text = (tmp_path / "cosmos3/sft" / name / "metrics.jsonl").read_text()
        rows.append([(row["step"], row["loss"], row["grad_norm"]) for row in map(json.loads, text.splitlines())])
    assert len(rows[0]) == 6
    assert rows[0] == rows[1]
