"""Ratings read from answers, and their metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cosmos_core.data import Answer
from cosmos_core.plugin import PluginManager
from cosmos_core.train.scores import Scored, Scoring
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource
from cosmos_data_videophy.scoring import rating
from cosmos_data_videophy.writing import Synthetic, write_synthetic
from tests.command import cosmos

PLUGINS = PluginManager.discover()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4", 4), ("I would say 2.", 2), ("3.5", 3), ("15", None), ("6", None), ("", None), ("grade5", None), (" 1\n", 1)],
)
def test_the_first_stand_alone_digit_is_the_rating(text: str, expected: int | None) -> None:
    assert rating(text) == expected


def scored(pairs: list[tuple[str, str]], categories: str = "") -> Scored:
    """What the metric gives for answers and true ratings; categories: a letter each, in turn."""
    answers = [Answer(str(index), own, true) for index, (own, true) in enumerate(pairs)]
    groups = {answer.key: categories[index % len(categories)] for index, answer in enumerate(answers) if categories}
    result = Scoring.of(["videophy2"], PLUGINS).score(answers, groups)
    assert not result.problems
    return result


def test_figures_of_a_small_example() -> None:
    result = scored([("1", "1"), ("2", "2"), ("5", "3"), ("none", "4")])
    assert result.values == {
        "accuracy": 0.5,
        "unreadable": 0.25,
        "mean_absolute_error": pytest.approx(2 / 3),
        "rank_correlation": pytest.approx(1.0),
    }
    assert result.columns["mean_absolute_error"] == (0.0, 0.0, 2.0, None)


def test_every_category_has_its_figures() -> None:
    """Category a: 1 for 1, 5 for 3 and 4 for 5, of which one is right; category b: nothing but 2 for 2 and 'none'."""
    figures = scored([("1", "1"), ("2", "2"), ("5", "3"), ("none", "4"), ("4", "5")], "ab").values
    of_category = {name: value for name, value in figures.items() if name.endswith(("_a", "_b"))}
    assert of_category == {
        "accuracy_a": pytest.approx(1 / 3),
        "unreadable_a": 0.0,
        "mean_absolute_error_a": pytest.approx(1.0),
        "rank_correlation_a": pytest.approx(0.5),
        "accuracy_b": 0.5,
        "unreadable_b": 0.5,
        "mean_absolute_error_b": 0.0,
    }


def test_a_source_says_categories_and_the_confusion_is_drawn(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", Synthetic(train=5, val=10, seed=3))
    source = VideophySource(VideophyConfig(type="videophy2", path=str(tmp_path / "data"), split="val"))
    chats = [source.get(index, np.random.default_rng(0)) for index in range(len(source))]
    answers = [Answer(chat.key, str(chat.messages[1].content[0]), str(chat.messages[1].content[0])) for chat in chats]
    scoring = Scoring.of(["videophy2"], PLUGINS)
    figures = scoring.score(answers, source.categories).values
    assert (figures["accuracy"], figures["mean_absolute_error"]) == (1.0, 0.0)
    assert {"accuracy_small", "accuracy_large"} & figures.keys()
    assert "unscored" not in figures
    assert list(scoring.report(answers, tmp_path)) == []
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_answers_that_cannot_be_scored_are_counted_and_change_no_other_figure() -> None:
    figures = scored([("3", "3"), ("4", "7"), ("yes", "yes")]).values
    assert figures == {"accuracy": 1.0, "unreadable": 0.0, "mean_absolute_error": 0.0, "unscored": 2.0}
    assert scored([("yes", "yes")]).values == {"unscored": 1.0}


def test_eval_prints_the_figures_of_categories_and_what_was_not_scored(tmp_path: Path) -> None:
    cosmos("data", "prepare", "videophy2", "--synthetic", "5", "--val", "10", "-o", str(tmp_path / "data"))
    for number in (1, 2, 3):
        path = tmp_path / f"data/videophy2_val/text/conversation_{number:04d}.json"
        dialog = json.loads(path.read_text())
        dialog["conversations"][1]["content"][0]["text"] = "yes"
        path.write_text(json.dumps(dialog))
    environment = {"VIDEOPHYSICS_ROOT": str(tmp_path / "data")}
    small = ("trainer.max_iter=1", "trainer.run_validation=false", "scheduler.warm_up_steps=[0]")
    cosmos("run", "videophy2_demo", "--output-root", str(tmp_path / "runs"), *small, env=environment)
    done = cosmos("eval", str(tmp_path / "runs/cosmos3/sft/videophy2_demo"), env=environment)
    printed = dict(line.split(": ") for line in done.stdout.splitlines())
    assert {"accuracy", "accuracy_small", "accuracy_large"} <= printed.keys()
    assert printed["unscored"] == "3.0000"
    folder = tmp_path / "runs/cosmos3/sft/videophy2_demo/evaluation"
    words = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert sum(answer["reference"] == "yes" for answer in words) == 3
    assert {answer["key"] for answer in words} == {f"conversation_{number:04d}" for number in range(1, 11)}
    for answer in words:
        right = float(rating(answer["prediction"]) == rating(answer["reference"]))
        assert answer["scores"]["accuracy"] == (None if answer["reference"] == "yes" else right)
    page = (folder / "answers.html").read_text()
    assert page.count("<tr data-0=") == 10
    assert page.count("data:image/webp;base64,") == 10
