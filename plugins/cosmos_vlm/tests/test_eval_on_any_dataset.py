"""`cosmos eval SOURCE DATASET`: own dialogs, scored and shown in a page; metrics of one's own; bad input."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cosmos_core.data import Answer
from cosmos_core.data.video import write_mp4
from cosmos_core.train.answer_page import Row, pictures, write_page
from cosmos_core.train.model_input import ModelInput
from tests.browser import browser, chromium_path, look
from tests.command import cosmos
from tests.physics import write_physics
from tests.tiny_reasoner import noise, write_reasoner

METRICS = """
def length(answers):
    return [len(answer.prediction) for answer in answers]

def broken(answers):
    return answers[0].score
"""
FEW = "model.max_new_tokens=3"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published reasoner, dialogs about a picture, a clip and nothing, and metrics."""
    root = tmp_path_factory.mktemp("eval")
    write_reasoner(root / "published")
    Image.effect_noise((64, 96), 90).convert("RGB").save(root / "picture.png")
    write_mp4(root / "clip.mp4", noise(8, 64, 64, 3).numpy(), 4)
    rows = [
        dialog("picture", "<image>What is <b>it</b>?", "B", images=["picture.png"]),
        dialog("clip", "<video>What happens?", "(A)", videos=["clip.mp4"]),
        dialog("text", "Hello?", "C. the third"),
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    numbers = [dialog(str(number), "How many?", str(number)) for number in range(5)]
    (root / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in numbers))
    (root / "my_metrics.py").write_text(METRICS)
    return root


def dialog(key: str, question: str, answer: str, **media: list[str]) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": key, "messages": turns, **media}


def evaluated(place: Path, *arguments: str) -> dict[str, float]:
    figures: dict[str, float] = json.loads(cosmos("eval", *arguments, FEW, "--json", cwd=place).stdout)
    return figures


def refused(place: Path, *arguments: str) -> str:
    done = cosmos("eval", *arguments, FEW, code=2, cwd=place)
    assert "Traceback" not in done.stderr
    return done.stderr


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_own_dialogs_have_loss_letters_and_a_page_with_pictures(place: Path, tmp_path: Path) -> None:
    figures = evaluated(place, "published", "rows.jsonl", "--metric", "my_metrics:length", "-o", str(tmp_path))
    assert figures.keys() == {"val_loss", "exact_match", "choice_accuracy", "length"}
    said = records(tmp_path)
    assert [(record["key"], record["reference"]) for record in said] == [
        ("clip", "(A)"),
        ("picture", "B"),
        ("text", "C. the third"),
    ]
    assert figures["length"] == pytest.approx(sum(len(record["prediction"]) for record in said) / 3)
    assert [record["scores"]["length"] for record in said] == [len(record["prediction"]) for record in said]
    page = (tmp_path / "answers.html").read_text()
    assert page.count("<tr data-0=") == 3
    assert page.count('src="data:image/webp;base64,') == 2
    assert "What is &lt;b&gt;it&lt;/b&gt;?" in page
    assert '<td data-name="asked"><div class="text">What is &lt;b&gt;it&lt;/b&gt;?' in page
    assert "&lt;|" not in page
    assert "http" not in page
    assert json.loads((tmp_path / "metrics.json").read_text())["dataset"] == "rows.jsonl"


def test_numbers_have_error_and_correlation_and_answers_can_be_fewer_or_none(place: Path, tmp_path: Path) -> None:
    figures = evaluated(place, "published", "numbers.jsonl", "-o", str(tmp_path / "all"))
    assert {"val_loss", "exact_match", "unreadable"} <= figures.keys()
    few = evaluated(place, "published", "numbers.jsonl", "-o", str(tmp_path / "few"), "--answers", "2")
    assert len(records(tmp_path / "few")) == 2
    none = evaluated(place, "published", "numbers.jsonl", "-o", str(tmp_path / "none"), "--answers", "0")
    assert none == {"val_loss": figures["val_loss"]} == {"val_loss": few["val_loss"]}
    assert not (tmp_path / "none/answers.jsonl").exists()


def test_a_run_is_evaluated_on_other_data_and_tells_answers_while_it_trains(place: Path, tmp_path: Path) -> None:
    write_physics(tmp_path / "physics", train=4, val=1)
    data = {"type": "chat", "path": str(place / "rows.jsonl")}
    recipe = tmp_path / "own.toml"
    values = "\n".join(f"{name} = {json.dumps(value)}" for name, value in data.items())
    recipe.write_text(
        'extends = "videophy2_demo"\nunset = ["dataloader_val.dataset"]\n'
        f"[dataloader_val.dataset]\n{values}\n[trackers.tensorboard]\n"
    )
    short = ("trainer.max_iter=2", "trainer.validation_iter=1", "scheduler.cycle_lengths=[4]")
    more = ("scheduler.warm_up_steps=[0]", "dataloader_train.max_samples_per_batch=2", "model.init=pretrained")
    backbone = f"model.backbone.model_name={place / 'published'}"
    command = ("run", str(recipe), "--output-root", str(tmp_path), "job.name=own", *short, *more, FEW, backbone)
    offline = {"WANDB_SILENT": "true", "WANDB_API_KEY": "local-secret-key"}
    done = cosmos(*command, "job.wandb_mode=offline", env={"VIDEOPHYSICS_ROOT": str(tmp_path / "physics"), **offline})
    run = tmp_path / "cosmos3/sft/own"
    log = (run / "logs/rank_0.log").read_text()
    assert "step 1/2: clip: answered '" in log
    assert "the data says '(A)'" in log
    assert "step 1/2: clip: answered" in done.stdout + done.stderr
    validated = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if "val_loss" in line]
    assert all({"exact_match", "choice_accuracy"} <= record.keys() for record in validated)
    assert len(records(run / "validation/step_000000001")) == 3
    (table, *_) = sorted((run / "wandb").rglob("answers_*.table.json"))
    assert json.loads(table.read_text())["data"][0][::2] == ["clip", "(A)"]
    assert b"val/answers/clip" in b"".join(file.read_bytes() for file in (run / "tensorboard").iterdir())
    figures = evaluated(place, str(run), str(place / "numbers.jsonl"))
    assert "unreadable" in figures
    assert len(records(run / "evaluation")) == 5


def test_bad_input_is_told(place: Path) -> None:
    assert "no module" in refused(place, "published", "rows.jsonl", "--metric", "nowhere:f").lower()
    assert "modules in the current folder are found too" in refused(place, "published", "rows.jsonl", "--metric", "f")
    said = refused(place, "published", "rows.jsonl", "--metric", "my_metrics:broken", "-o", "kept")
    assert "metric 'broken' failed: AttributeError" in said
    assert "my_metrics.py:6" in said
    assert len(records(place / "kept")) == 3
    silent = ("--metric", "my_metrics:length", "--answers", "0")
    assert "nothing to score" in refused(place, "published", "rows.jsonl", *silent)
    said = refused(place, "published", "rows.json")
    assert "'rows.json' is no file or folder, no dataset, no recipe, and no key=value" in said
    (place / "wrong.jsonl").write_text((place / "rows.jsonl").read_text() + '{"messages"\n')
    assert "wrong.jsonl:4" in refused(place, "published", "wrong.jsonl")
    assert "name a recipe" in refused(place, "published")


def test_pictures_of_one_size_are_shown_one_by_one_and_only_a_clip_moves() -> None:
    black, white = (torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (0, 255))
    urls = pictures(ModelInput(media=((black, black), (white, white), (black, black, white, white)), text=()))
    frames = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).n_frames for url in urls]
    assert frames == [1, 1, 2]


def test_the_page_of_many_metrics_fits_a_phone_and_a_wide_window(tmp_path: Path) -> None:
    figures = dict.fromkeys(("accuracy", "unreadable", "mean_absolute_error", "rank_correlation"), 0.5)
    write_page(tmp_path / "answers.html", "Answers", figures, [Row(answer=Answer("a", "4", "5"), values=figures)], [])
    with browser() as chromium:
        for seen in look(chromium, tmp_path / "answers.html").values():
            assert seen["overflow"] <= 0
            assert all(name in seen["text"] for name in figures)


def test_the_page_sorts_worst_first_in_a_browser(place: Path, tmp_path: Path) -> None:
    """Debian's chromium prints the page after its script ran."""
    rows = [
        Row(answer=Answer(key, "said", "true"), values={"error": value})
        for key, value in (("small", 0.5), ("large", 7.0), ("unread", None), ("none", 0.0))
    ]
    write_page(tmp_path / "answers.html", "Answers", {"error": 2.5}, rows, ["error"])
    command = (
        chromium_path(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        f"file://{tmp_path}/answers.html",
    )
    shown = subprocess.run(command, capture_output=True, text=True, timeout=180).stdout
    places = [shown.index(f'data-name="sample">{key}') for key in ("unread", "large", "small", "none")]
    assert places == sorted(places)
