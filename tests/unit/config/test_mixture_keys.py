"""What a mixture's tables may hold, and how they are shown and explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_core.config.dump import to_plain, to_toml
from cosmos_core.config.explain import explain_key
from cosmos_core.config.schema import json_schema
from cosmos_core.config.structure import read_resolved
from cosmos_core.errors import UserError
from cosmos_core.plan.changes import changes
from cosmos_core.plan.ineffective import ineffective
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import peek, resolve
from cosmos_core.recipes.show import show
from cosmos_core.recipes.value import value_in

PLUGINS = PluginManager.discover()
TWO = """
extends = "hello"
unset = ["dataloader_train.dataset"]
[[dataloader_train.mixture]]
type = "tiny"
weight = 3
count = 7
[[dataloader_train.mixture]]
type = "bridge"
name = "clips"
weight = 1
path = "clips"
cfg_dropout_rate = 0.0
cfg_dropout_keep_metadata = true
"""


def recipe(folder: Path, text: str) -> str:
    path = folder / "recipe.toml"
    path.write_text(text)
    return str(path)


def problems(folder: Path, text: str, *overrides: str) -> dict[str, tuple[int | None, str]]:
    """Key -> line and message."""
    with pytest.raises(UserError) as error:
        resolve(recipe(folder, text), overrides, plugins=PLUGINS)
    return {one.key: (one.line, f"{one.message}; {one.hint}") for one in error.value.problems}


def test_members_are_typed_by_their_datasets_and_read_back_from_the_run_directory(tmp_path: Path) -> None:
    config = resolve(recipe(tmp_path, TWO), plugins=PLUGINS).config
    loader = config.dataloader_train
    assert [(key, member.label, member.weight) for key, member in loader.datasets.items()] == [
        ("mixture[0]", "tiny", 3.0),
        ("mixture[1]", "clips", 1.0),
    ]
    assert loader.dataset is None
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert read_resolved(tmp_path / "config.toml", PLUGINS.registry) == config


def test_the_command_line_takes_a_whole_mixture_and_drops_the_single_dataset() -> None:
    given = ('dataloader_train.mixture=[{type="tiny",weight=1},{type="tiny",name="b",weight=2}]',)
    config = resolve("hello", ("dataloader_train.dataset=null", *given), plugins=PLUGINS).config
    assert list(config.dataloader_train.datasets) == ["mixture[0]", "mixture[1]"]
    with pytest.raises(UserError) as error:
        resolve("hello", ("dataloader_train.mixture[1].weight=2",), plugins=PLUGINS)
    assert "give the whole list: dataloader_train.mixture=[...]" in error.value.problems[0].hint


def test_all_that_is_wrong_with_members_is_told_at_once(tmp_path: Path) -> None:
    text = """extends = "hello"
[[dataloader_train.mixture]]
type = "tiny"
weight = 0
[[dataloader_train.mixture]]
type = "tiny"
weight = nan
[[dataloader_train.mixture]]
type = "tiny"
weight = -1.5
conut = 3
[[dataloader_train.mixture]]
type = "tiyn"
[[dataloader_train.mixture]]
weight = 1
"""
    found = problems(tmp_path, text)
    assert {key: line for key, (line, _) in found.items()} == {
        "dataloader_train.mixture": 2,
        "dataloader_train.mixture[0].weight": 4,
        "dataloader_train.mixture[1].weight": 7,
        "dataloader_train.mixture[2].weight": 10,
        "dataloader_train.mixture[2].conut": 11,
        "dataloader_train.mixture[3].type": 13,
        "dataloader_train.mixture[4].type": 14,
    }
    both = found["dataloader_train.mixture"][1]
    assert "and so is dataloader_train.dataset (" in both
    assert "hello.toml:" in both
    assert 'unset = ["dataloader_train.dataset"]' in both
    assert "must be above 0; got 0" in found["dataloader_train.mixture[0].weight"][1]
    assert "finite" in found["dataloader_train.mixture[1].weight"][1]
    assert "did you mean 'count'?" in found["dataloader_train.mixture[2].conut"][1]


def test_weights_are_needed_and_names_are_the_members_own(tmp_path: Path) -> None:
    text = (
        TWO + '[[dataloader_train.mixture]]\ntype = "tiny"\n[[dataloader_train.mixture]]\ntype = "tiny"\nname = "a b"\n'
    )
    found = {key: message for key, (_, message) in problems(tmp_path, text + "weight = 1\n").items()}
    assert found.keys() == {
        "dataloader_train.mixture[2].weight",
        "dataloader_train.mixture[2].name",
        "dataloader_train.mixture[3].name",
    }
    assert "mixture[0] is called 'tiny' too" in found["dataloader_train.mixture[2].name"]
    assert "cannot name a metric" in found["dataloader_train.mixture[3].name"]


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("dataloader_train.mixture=3", "dataloader_train.mixture", "expected a list of tables"),
        ("dataloader_train.mixture=[3]", "dataloader_train.mixture[0]", "expected a table"),
        (
            "dataloader_train.mixture=[{type=5}]",
            "dataloader_train.mixture[0].type",
            "expected text, got 5 (a whole number)",
        ),
        ("dataloader_train.mixture=[]", "dataloader_train.dataset.type", "is missing"),
    ],
)
def test_what_is_no_list_of_tables_is_refused(tmp_path: Path, override: str, key: str, words: str) -> None:
    assert words in problems(tmp_path, TWO, override)[key][1]


def test_a_key_that_a_member_lacks_is_not_said_to_be_set_on_the_command_line(tmp_path: Path) -> None:
    """Which takes lists as a whole alone."""
    line, words = problems(tmp_path, TWO.replace('path = "clips"', ""))["dataloader_train.mixture[1].path"]
    assert (line, words) == (8, "is missing; set it there")


def test_validation_has_one_dataset_and_a_single_one_has_no_weight(tmp_path: Path) -> None:
    text = 'extends = "hello"\n[[dataloader_val.mixture]]\ntype = "tiny"\nweight = 1\n'
    assert problems(tmp_path, text) == {
        "dataloader_val.mixture": (2, "is for training data alone; name one dataset for validation")
    }
    alone = problems(tmp_path, 'extends = "hello"\n[dataloader_train.dataset]\nweight = 1\n')
    assert "is for a member of a mixture" in alone["dataloader_train.dataset.weight"][1]


def test_a_mixture_is_shown_explained_listed_and_in_the_schema(tmp_path: Path) -> None:
    resolved = resolve(recipe(tmp_path, TWO), plugins=PLUGINS)
    assert 'dataloader_train.mixture[1].name = "clips"  # ' + str(tmp_path / "recipe.toml:10") in show(
        resolved, provenance=True
    )
    key = "dataloader_train.mixture[1].weight"
    facts = explain_key(key, PLUGINS.registry.sections(), value_in(resolved, key))
    assert {fact["key"] for fact in facts} == {key}
    assert (facts[0]["value"], facts[0]["origin"]) == ("1", str(tmp_path / "recipe.toml:11"))
    assert value_in(resolved, "dataloader_train.mixture[2].weight") == {"value": "not in this recipe"}
    assert peek(tmp_path / "recipe.toml").dataset == "tiny + bridge"
    (idle,) = ineffective(resolved.config)
    assert idle.startswith("dataloader_train.mixture[1].cfg_dropout_keep_metadata has no effect: ")
    loaders = json_schema(PLUGINS.registry.sections())["properties"]
    train = loaders["dataloader_train"]["properties"]
    assert train["mixture"]["items"] == train["dataset"]
    assert "mixture" not in loaders["dataloader_val"]["properties"]


def test_members_that_changed_came_or_went_are_listed_by_name(tmp_path: Path) -> None:
    recorded = to_plain(resolve(recipe(tmp_path, TWO), plugins=PLUGINS).config)
    other = TWO.replace("weight = 3", "weight = 2").replace('"clips"\nweight', '"films"\nweight')
    listed = [str(change) for change in changes(recorded, resolve(recipe(tmp_path, other), plugins=PLUGINS).config)]
    assert listed == [
        "dataloader_train.mixture[0].weight 3 -> 2",
        'dataloader_train.mixture[1] not set -> "films"',
        'dataloader_train.mixture "clips" -> not set',
    ]


def test_changed_does_nothing_for_validation(tmp_path: Path) -> None:
    text = 'extends = "hello"\n[dataloader_val.dataset]\nchanged = "accept"\n'
    (idle,) = ineffective(resolve(recipe(tmp_path, text), plugins=PLUGINS).config)
    assert idle.startswith("dataloader_val.dataset.changed has no effect: ")
