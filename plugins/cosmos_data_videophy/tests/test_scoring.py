"""Ratings read from answers, and the figures about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosmos_core.data import Answer
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource
from cosmos_data_videophy.scoring import GRADES, Rated, figures, rating
from cosmos_data_videophy.writing import Synthetic, write_synthetic


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4", 4), ("I would say 2.", 2), ("3.5", 3), ("15", None), ("6", None), ("", None), ("grade5", None), (" 1\n", 1)],
)
def test_the_first_stand_alone_digit_is_the_rating(text: str, expected: int | None) -> None:
    assert rating(text) == expected


def rated(pairs: list[tuple[int | None, int]]) -> list[Rated]:
    return [Rated(str(index), said, wanted, "ab"[index % 2]) for index, (said, wanted) in enumerate(pairs)]


def test_figures_of_a_small_example() -> None:
    found = figures(rated([(1, 1), (2, 2), (5, 3), (None, 4)]))
    assert found["accuracy"] == 0.5
    assert found["unreadable"] == 0.25
    assert found["mean_absolute_error"] == pytest.approx(2 / 3)
    assert found["rank_correlation"] == pytest.approx(1.0)
    assert found["accuracy_a"] == 0.5


@given(st.lists(st.tuples(st.sampled_from(GRADES), st.sampled_from(GRADES)), min_size=3, max_size=40))
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    def ranks(values: list[int]) -> list[float]:
        return [sum(other < value for other in values) + (values.count(value) - 1) / 2 for value in values]

    found = figures(rated(list(pairs))).get("rank_correlation")
    said, wanted = (ranks([pair[index] for pair in pairs]) for index in (0, 1))
    if len(set(said)) == 1 or len(set(wanted)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(float(np.corrcoef(said, wanted)[0, 1]))


def test_a_source_scores_by_category_and_draws_the_confusion(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "data", Synthetic(train=5, val=10, seed=3))
    source = VideophySource(VideophyConfig(type="videophy2", path=str(tmp_path / "data"), split="val"))
    chats = [source.get(index, np.random.default_rng(0)) for index in range(len(source))]
    answers = [Answer(chat.key, str(chat.turns[1].parts[0]), str(chat.turns[1].parts[0])) for chat in chats]
    found = source.score(answers, tmp_path)
    assert (found["accuracy"], found["mean_absolute_error"]) == (1.0, 0.0)
    assert {"accuracy_small", "accuracy_large"} & found.keys()
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 10
