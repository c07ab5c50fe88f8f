"""The reasoner's demo through the command line: prepare, train from scratch, score, and evaluate again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.demo_reasoner import Figures
from tests.command import ROOT, cosmos, module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("physics") / "data"
    cosmos("data", "prepare", "videophy2", "--synthetic", "4000", "-o", str(folder))
    return {"VIDEOPHYSICS_ROOT": str(folder)}


@pytest.fixture(scope="module")
def printed(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the measuring script prints about the demo run."""
    output = tmp_path_factory.mktemp("runs")
    cosmos("run", "videophy2_demo", "--output-root", str(output), env=data)
    run_dir = output / "cosmos3/sft/videophy2_demo"
    text = module("tests.acceptance.demo_reasoner", str(run_dir), env=data, cwd=ROOT).stdout
    print(text)
    return dict(line.split(": ", 1) for line in text.strip().splitlines()[-len(Figures.__attrs_attrs__) :])


@pytest.mark.slow
def test_held_out_clips_get_their_grade(printed: dict[str, str]) -> None:
    assert float(printed["accuracy"]) >= 0.8
    assert float(printed["accuracy_untrained"]) <= 0.25
    assert float(printed["rank_correlation"]) >= 0.6


@pytest.mark.slow
def test_gravity_is_the_same_backwards_and_gone_when_frames_are_shuffled(printed: dict[str, str]) -> None:
    assert abs(float(printed["accuracy_reversed"]) - float(printed["accuracy"])) <= 0.08
    assert float(printed["accuracy_shuffled"]) <= 0.5


@pytest.mark.slow
def test_training_takes_at_most_four_minutes(printed: dict[str, str]) -> None:
    assert float(printed["train_seconds"]) <= 240


@pytest.mark.slow
def test_evaluation_repeats_the_figures_of_the_run(printed: dict[str, str], data: dict[str, str]) -> None:
    run_dir = Path(printed["run_dir"])
    assert Path(printed["samples"]).read_bytes().startswith(b"\x89PNG")
    found = json.loads(cosmos("eval", str(run_dir), "--json", env=data).stdout)
    assert found["accuracy"] == float(printed["accuracy"])
    assert found["val_loss"] == pytest.approx(float(printed["val_loss_last"]), abs=1e-4)
    answers = [json.loads(line) for line in (run_dir / "evaluation/answers.jsonl").read_text().splitlines()]
    assert len(answers) == 500
    assert all(answer["prediction"].strip() and answer["reference"].strip() in "12345" for answer in answers)
    assert (run_dir / "evaluation/confusion.png").is_file()
