"""General metrics of answers, beside plain arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.builtin.metrics import choice, exact_match, number
from cosmos_core.data import Answer
from cosmos_core.train import rank_correlation


def answers(*pairs: tuple[str, str]) -> list[Answer]:
    return [Answer(str(index), *pair) for index, pair in enumerate(pairs)]


def test_the_same_words_match_but_for_case_space_and_a_full_stop() -> None:
    said = answers(("A red  ball.", "a red ball"), ("A ball", "a red ball"), ("", ""), ("Yes!", "yes"))
    assert exact_match(said) == {"exact_match": [1, 0, 1, 0]}


@pytest.mark.parametrize(
    "text", ["B", "(B)", "B.", "B) the cat", " B: the cat\n", "The answer is B", "Option (B) fits"]
)
def test_a_letter_is_read_however_it_is_written(text: str) -> None:
    assert choice(answers((text, "B"), ("C", "B. the cat"))) == {"choice_accuracy": [1, 0]}


@pytest.mark.parametrize("reference", ["A picture.", "b", "12", "", "Both"])
def test_data_with_other_answers_has_no_letters(reference: str) -> None:
    assert choice(answers(("B", "B"), ("B", reference))) == {}


def test_numbers_have_an_error_and_a_rank_correlation() -> None:
    values = number(answers(("about 1,000 of them", "1000"), ("-2.5", "-2"), ("many", "7%"), ("30", "20.")))
    assert values == {
        "mean_absolute_error": [0, 0.5, None, 10],
        "unreadable": [0, 0, 1, 0],
        "rank_correlation": pytest.approx(1.0),
    }
    assert number(answers(("3", "3"), ("4", "four"))) == {}
    assert "rank_correlation" not in number(answers(("3", "3"), ("3", "4")))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=40))
@settings(deadline=None)
def test_rank_correlation_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    def ranks(values: Sequence[int]) -> list[float]:
        return [sum(other < value for other in values) + (values.count(value) - 1) / 2 for value in values]

    first, second = ([pair[index] for pair in pairs] for index in (0, 1))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert rank_correlation(first, second) is None
    else:
        expected = np.corrcoef(ranks(first), ranks(second))[0, 1]
        assert rank_correlation(first, second) == pytest.approx(float(expected))
