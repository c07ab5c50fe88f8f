"""The whole demo through the command line: prepare, fine-tune, measure; and that it repeats itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.demo_generator import Figures
from tests.command import ROOT, cosmos, metric_records, module

WARM = "scheduler.warm_up_steps=[2]"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("demo") / "bridge_synthetic"
    cosmos("data", "prepare", "bridge", "--synthetic", "768", "-o", str(folder))
    return {"DATASET_PATH": str(folder)}


@pytest.fixture(scope="module")
def printed(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the measuring script prints about the demo run."""
    output = tmp_path_factory.mktemp("runs")
    cosmos("run", "vision_sft_demo", "--output-root", str(output), env=data)
    run_dir = output / "cosmos3/sft/vision_sft_demo"
    judging = {**data, "OMP_WAIT_POLICY": "PASSIVE"}
    text = module("tests.acceptance.demo_generator", str(run_dir), env=judging, cwd=ROOT).stdout
    print(text)
    return dict(line.split(": ", 1) for line in text.strip().splitlines()[-len(Figures.__attrs_attrs__) :])


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
    assert "<video" in Path(printed["page"]).read_text(encoding="utf-8")
    checkpoints = Path(printed["run_dir"]) / "checkpoints"
    latest = (checkpoints / "latest_checkpoint.txt").read_text().strip()
    assert (checkpoints / latest / "model" / ".metadata").exists()


@pytest.mark.slow
def test_a_second_run_repeats_every_loss(data: dict[str, str], tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        overrides = (
            f"job.name={name}",
            "trainer.max_iter=6",
            "trainer.run_validation=false",
            "trainer.logging_iter=1",
            WARM,
        )
        cosmos("run", "vision_sft_demo", "--output-root", str(tmp_path), *overrides, env=data)
        found.append(
            [
                (record["step"], record["loss"], record["grad_norm"])
                for record in metric_records(tmp_path / "cosmos3/sft" / name)
            ]
        )
    assert len(found[0]) == 6
    assert found[0] == found[1]
