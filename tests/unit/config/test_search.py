"""Keys found by a word."""

from __future__ import annotations

import json

import pytest

from cosmos_core.config.reference import CORE_SECTIONS
from cosmos_core.config.search import search_keys
from cosmos_core.errors import UserError
from tests.command import cosmos


def found(word: str) -> list[str]:
    return [key.name for key in search_keys(word, CORE_SECTIONS)]


def test_a_word_finds_names_before_descriptions() -> None:
    assert found("lr")[0] == "optimizer.lr"
    assert found("warmup") == ["scheduler.warm_up_steps"]
    assert found("WARM-UP")[0] == "scheduler.warm_up_steps"
    decay = found("decay")
    assert decay[0] == "optimizer.weight_decay"


def test_a_table_finds_its_keys() -> None:
    assert {key.partition(".")[0] for key in found("optimizer")[:5]} == {"optimizer"}


def test_an_unknown_word_names_the_nearest_keys() -> None:
    with pytest.raises(UserError) as error:
        search_keys("schedular", CORE_SECTIONS)
    assert "scheduler." in error.value.problems[0].hint


def test_explain_prints_all_matches_with_defaults_or_a_recipes_values() -> None:
    text = cosmos("config", "explain", "lora").stdout
    assert "model.lora_rank" in text
    assert "Rank of the adapters." in text
    keys = json.loads(cosmos("config", "explain", "lora", "--recipe", "vision_sft_super", "--json").stdout)
    assert next(row for row in keys if row["key"] == "model.lora_enabled")["value"] == "true"
    assert "no key contains 'loraz'" in cosmos("config", "explain", "loraz", code=2).stderr
