"""Ratings read from answers, and their metrics."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.data import Answer
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource
from cosmos_data_videophy.scoring import GRADES, Rated, metrics, rating
from cosmos_data_videophy.writing import Synthetic, write_synthetic
from tests.command import cosmos


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4", 4), ("I would say 2.", 2), ("3.5", 3), ("15", None), ("6", None), ("", None), ("grade5", None), (" 1\n", 1)],
)
def test_the_first_stand_alone_digit_is_the_rating(text: str, expected: int | None) -> None:
    assert rating(text) == expected


def rated(pairs: list[tuple[int | None, int]]) -> list[Rated]:
    return [Rated(str(index), said, wanted, "ab"[index % 2]) for index, (said, wanted) in enumerate(pairs)]


def test_figures_of_a_small_example() -> None:
    found = metrics(rated([(1, 1), (2, 2), (5, 3), (None, 4)]))
    assert found["accuracy"] == 0.5
    assert found["unreadable"] == 0.25
    assert found["mean_absolute_error"] == pytest.approx(2 / 3)
    assert found["rank_correlation"] == pytest.approx(1.0)


def test_every_category_has_all_three_metrics() -> None:
    """Category a: 1 for 1, 5 for 3 and 4 for 5, of which one is right; category b: nothing but 2 for 2 and 'none'."""
    found = metrics(rated([(1, 1), (2, 2), (5, 3), (None, 4), (4, 5)]))
    of_category = {name: value for name, value in found.items() if name.endswith(("_a", "_b"))}
    assert of_category == {
        "accuracy_a": pytest.approx(1 / 3),
        "mean_absolute_error_a": pytest.approx(1.0),
        "rank_correlation_a": pytest.approx(0.5),
        "accuracy_b": 0.5,
        "mean_absolute_error_b": 0.0,
    }


@given(st.lists(st.tuples(st.sampled_from(GRADES), st.sampled_from(GRADES)), min_size=3, max_size=40))
@settings(deadline=None)
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    def ranks(values: list[int]) -> list[float]:
        return [sum(other < value for other in values) + (values.count(value) - 1) / 2 for value in values]

    found = metrics(rated(list(pairs))).get("rank_correlation")
    said, wanted = (ranks([pair[index] for pair in pairs]) for index in (0, 1))
    if len(set(said)) == 1 or len(set(wanted)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(float(np.corrcoef(said, wanted)[0, 1]))


def test_a_source_scores_by_category_and_draws_the_confusion(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", Synthetic(train=5, val=10, seed=3))
    source = VideophySource(VideophyConfig(type="videophy2", path=str(tmp_path / "data"), split="val"))
    chats = [source.get(index, np.random.default_rng(0)) for index in range(len(source))]
    answers = [Answer(chat.key, str(chat.messages[1].content[0]), str(chat.messages[1].content[0])) for chat in chats]
    found = source.score(answers, tmp_path)
    assert (found["accuracy"], found["mean_absolute_error"]) == (1.0, 0.0)
    assert {"accuracy_small", "accuracy_large"} & found.keys()
    assert "unscored" not in found
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "ratings.jsonl").read_text().splitlines()) == 10


class Heard(logging.Handler):
    """Keeps what is logged while inside."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.logger, self.said = logging.getLogger(name), list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def __enter__(self) -> list[str]:
        self.logger.addHandler(self)
        return self.said

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)


def test_answers_that_cannot_be_scored_are_counted_and_warned_about(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", Synthetic(train=5, val=5, seed=3))
    source = VideophySource(VideophyConfig(type="videophy2", path=str(tmp_path / "data"), split="val"))
    answers = [Answer("a", "3", "3"), Answer("b", "4", "7"), Answer("c", "yes", "yes")]
    with Heard("cosmos_data_videophy.dataset") as said:
        found = source.score(answers, tmp_path)
        assert source.score([Answer("c", "yes", "yes")], tmp_path) == {"unscored": 1.0}
        assert source.score(answers[:1], tmp_path).keys() == found.keys() - {"unscored"}
    assert found == {"accuracy": 1.0, "unreadable": 0.0, "mean_absolute_error": 0.0, "unscored": 2.0}
    rest = "answers are not scored: the data has no rating from 1 to 5 there; the first is"
    assert said == [f"2 of 3 {rest} b", f"1 of 1 {rest} c"]


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
    assert "3 of 10 answers are not scored" in done.stderr
    folder = tmp_path / "runs/cosmos3/sft/videophy2_demo/evaluation"
    words = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    ratings = [json.loads(line) for line in (folder / "ratings.jsonl").read_text().splitlines()]
    assert sum(answer["reference"] == "yes" for answer in words) == 3
    assert {answer["key"] for answer in words} == {f"conversation_{number:04d}" for number in range(1, 11)}
    said = {answer["key"]: rating(answer["prediction"]) for answer in words}
    assert {answer["key"]: answer["prediction"] for answer in ratings}.items() <= said.items()
