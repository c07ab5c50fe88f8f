"""Every key of every shipped family is rejected or listed on resume, as the reference page says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from cosmos_core.config import ModelConfig, RunConfig, option, section
from cosmos_core.config.dump import to_plain
from cosmos_core.config.overrides import parse_key
from cosmos_core.config.reference import Key, keys_of
from cosmos_core.plan.changes import changes
from cosmos_core.plugin import CallbackSpec, PluginManager, TrackerSpec
from cosmos_core.recipes.loading import load

PLUGINS = PluginManager.discover()
SECTIONS = PLUGINS.registry.sections()

SHARED = {"job.task", "optimizer.keys_to_select", "model.ema.enabled"}
ADAPTERS = {"model.lora_enabled", "model.lora_rank", "model.lora_alpha", "model.lora_target_modules"}
FLOW = {
    "shift", "video_distribution", "image_distribution", "loss_scale", "image_loss_scale", "normalize_loss_by_active",
}  # fmt: skip
FREEZE = {"freeze_vision_encoder", "freeze_mm_projector", "freeze_llm", "frozen_params", "trainable_params"}
REFUSED = {
    "hello": {*SHARED, "model.hidden", "model.layers", "model.noise"},
    "vision_sft_nano": {
        *SHARED,
        *ADAPTERS,
        "model.tier",
        "model.num_layers",
        "model.tokenizer.type",
        "model.text_tokenizer.type",
        *(f"model.flow.{name}" for name in FLOW),
    },
    "llava_ov": {
        *SHARED,
        *ADAPTERS,
        "model.backbone.model_name",
        "model.num_layers",
        *(f"model.freeze.{name}" for name in FREEZE),
    },
}
REFUSED["videophy2_sft_nano"] = REFUSED["llava_ov"]
TRAINING = ("optimizer.keys_to_select", "model.noise", "model.flow.", "model.freeze.")
"""Of those refused, what an evaluation may change, since the model stays the same."""


WITHOUT_EFFECT = {"model.lora_rank", "model.lora_alpha", "model.lora_target_modules"}
"""In recipes without adapters, so that they may change."""


def whole(recipe: str) -> RunConfig:
    """A recipe with every callback and tracker, so that their keys are there too."""
    tables = [f"trainer.callbacks.{spec.name}" for spec in PLUGINS.registry.all(CallbackSpec)]
    tables += [f"trackers.{spec.name}" for spec in PLUGINS.registry.all(TrackerSpec)]
    given = load(recipe, plugins=PLUGINS).trainer.callbacks
    return load(recipe, [f"{table}={{}}" for table in tables if table.split(".")[-1] not in given], plugins=PLUGINS)


def keys(config: RunConfig) -> Iterator[Key]:
    selected = {"", f"task {config.job.task}", f"dataset {config.dataloader_train.dataset.type}"}
    for table in SECTIONS:
        *_, name = table.path.split(".")
        absent = table.path.startswith("trainer.callbacks.") and name not in config.trainer.callbacks
        if table.when in selected and not absent:
            yield from keys_of(table)


def another(key: Key, value: Any) -> Any:
    """A value of the same kind that differs."""
    if key.allowed.choices is not None and not isinstance(value, list):
        return next((choice for choice in key.allowed.choices if choice != value), "x")
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return value[:-1] if value else ["x"]
    return {**value, "x": 1.0} if isinstance(value, dict) else "x"


@pytest.mark.parametrize("recipe", REFUSED)
def test_every_key_is_refused_or_listed_as_the_table_says(recipe: str) -> None:
    config = whole(recipe)
    seen = set()
    for key in keys(config):
        *tables, last = parse_key(key.name)
        recorded = to_plain(config)
        table = recorded
        for name in tables:
            table = table[name]
        table[last] = another(key, table[last])
        (change,) = changes(recorded, config)
        assert change.key == key.name
        refused = "refuse_training" if key.name.startswith(TRAINING) else "refuse"
        assert key.on_resume == (refused if key.name in REFUSED[recipe] else "list"), key.name
        assert change.rule == ("list" if key.name in WITHOUT_EFFECT else key.on_resume), key.name
        seen.add(key.name)
    assert REFUSED[recipe] <= seen
    assert len(seen) > 80


@pytest.mark.parametrize("recipe", REFUSED)
def test_an_unchanged_configuration_has_no_changes(recipe: str) -> None:
    assert changes(to_plain(whole(recipe)), whole(recipe)) == ()


@pytest.mark.parametrize(
    "key",
    ["checkpoint.load_path", "dataloader_train.dataset.path", "model.tokenizer.vae_path", "dataloader_train.cache"],
)
def test_another_way_to_write_a_place_is_no_change(key: str, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path / "place")
    config = load("vision_sft_nano", [f"{key}={tmp_path}/place"], plugins=PLUGINS)
    for text in (f"{tmp_path}/a/../place", f"{tmp_path}/./place/", f"{tmp_path}/linked"):
        recorded = to_plain(load("vision_sft_nano", [f"{key}={text}"], plugins=PLUGINS))
        assert changes(recorded, config) == ()
    recorded = to_plain(load("vision_sft_nano", [f"{key}={tmp_path}/places"], plugins=PLUGINS))
    assert [change.key for change in changes(recorded, config)] == [key]


def test_keys_that_an_old_record_lacks_count_as_their_default() -> None:
    config = load("hello", ["model.ema.rate=0.2", "model.layers=3"], plugins=PLUGINS)
    recorded = to_plain(config)
    del recorded["model"]["layers"], recorded["model"]["ema"], recorded["checkpoint"], recorded["trackers"]
    assert [str(change) for change in changes(recorded, config)] == [
        "model.ema.rate 0.1 -> 0.2",
        "model.layers 2 -> 3",
        "checkpoint.save_iter 100 -> 20",
    ]


def test_keys_that_are_gone_are_listed_since_nobody_can_set_them_back() -> None:
    config = load("hello", plugins=PLUGINS)
    recorded = to_plain(config)
    recorded["model"]["legacy"] = True
    (change,) = changes(recorded, config)
    assert (str(change), change.rejected) == ("model.legacy true -> not set", False)


def test_tables_that_come_and_go_are_listed_whole() -> None:
    config = load("hello", ["trainer.callbacks.norm_monitor.every_n=7"], plugins=PLUGINS)
    recorded = to_plain(load("hello", ["trackers.tensorboard={}"], plugins=PLUGINS))
    assert [str(change) for change in changes(recorded, config)] == [
        "trainer.callbacks.norm_monitor not set -> { every_n = 7 }",
        "trackers.tensorboard { enabled = true } -> not set",
    ]


def test_of_another_task_only_the_task_is_named() -> None:
    (change,) = changes(to_plain(load("vision_sft_demo", plugins=PLUGINS)), load("hello", plugins=PLUGINS))
    assert (change.key, change.rejected) == ("job.task", True)


@frozen(kw_only=True)
class Part:
    """A table of a third party's model."""

    depth: int = option(1, "x")
    speed: int = option(1, "x", on_resume="list")


@frozen(kw_only=True)
class Foreign(ModelConfig):
    """A third party's model."""

    width: int = option(1, "x")
    chatty: bool = option(False, "x", on_resume="list")
    quick: Part = section(Part, "x", on_resume="list")
    deep: Part = section(Part, "x")


@pytest.mark.parametrize(
    ("change", "rejected"),
    [
        ({"width": 2}, True),
        ({"chatty": True}, False),
        ({"quick": Part(depth=2)}, False),
        ({"deep": Part(depth=2)}, True),
        ({"deep": Part(speed=2)}, False),
    ],
    ids=str,
)
def test_a_plugins_model_keys_are_refused_unless_it_says_otherwise(change: dict[str, Any], rejected: bool) -> None:
    config = evolve(load("hello", plugins=PLUGINS), model=Foreign())
    found = changes(to_plain(config), evolve(config, model=evolve(config.model, **change)))
    assert [one.rejected for one in found] == [rejected]
