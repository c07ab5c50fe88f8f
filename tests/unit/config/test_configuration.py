"""Layers, overrides, interpolation and strictness, through the public way: a recipe file and what it loads as."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from cosmos_core.config import RunConfig
from cosmos_core.config.dump import to_plain, to_toml, to_yaml
from cosmos_core.config.problems import render
from cosmos_core.config.structure import read_resolved
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load, resolve
from cosmos_core.recipes.show import show
from cosmos_core.strict_json import dumps

PLUGINS = PluginManager.discover()

BASE = """\
[job]
task = "tiny"
name = "base"

[model]
init = "random"
precision = "float32"
hidden = 8

[optimizer]
lr = 1e-3
betas = [0.9, 0.95]

[optimizer.lr_multipliers]
head = 2.0

[trainer.callbacks.grad_clip]
clip_norm = 0.5

[dataloader_train]
max_samples_per_batch = 4

[dataloader_train.dataset]
type = "tiny"
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "recipe.toml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def loaded(path: str, *overrides: str) -> RunConfig:
    return load(path, overrides, plugins=PLUGINS)


def refused(path: str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        loaded(path, *overrides)
    return render(error.value)


def test_a_recipe_sets_values_and_classes_the_rest(write) -> None:
    config = loaded(write(BASE))
    assert (config.optimizer.lr, config.optimizer.betas) == (1e-3, (0.9, 0.95))
    assert config.trainer.max_iter == 500
    assert config.trainer.callbacks["grad_clip"].clip_norm == 0.5
    assert config.trainer.callbacks["grad_clip"].force_finite is True
    assert config.dataloader_train.dataset.count == 64


def test_a_child_merges_tables_and_replaces_lists(write) -> None:
    write(BASE)
    child = write('extends = "recipe.toml"\n[optimizer]\nbetas = [0.8, 0.9]\n[job]\nname = "child"\n', "child.toml")
    config = loaded(child)
    assert (config.job.task, config.job.name) == ("tiny", "child")
    assert (config.optimizer.lr, config.optimizer.betas) == (1e-3, (0.8, 0.9))


def test_unset_returns_a_key_to_its_default(write) -> None:
    write(BASE)
    child = write('extends = "recipe.toml"\nunset = ["optimizer.lr", "trainer.callbacks.grad_clip"]\n', "child.toml")
    config = loaded(child)
    assert config.optimizer.lr == 1e-4
    assert "grad_clip" not in config.trainer.callbacks


@pytest.mark.parametrize("key", ["optimizer lr", "a\tb", "", "a = 1", "a.", "'open", "[optimizer]\nlr"])
def test_what_is_no_key_cannot_be_unset(write, key: str) -> None:
    text = refused(write(f"unset = [{json.dumps(key)}]\n", "child.toml"))
    assert "child.toml:1" in text
    assert "is not a dotted key" in text


def test_a_circle_of_parents_is_named(write) -> None:
    write('extends = "b.toml"\n', "a.toml")
    text = refused(write('extends = "a.toml"\n', "b.toml"))
    assert "circle" in text
    assert "a.toml" in text
    assert "b.toml" in text


def test_an_installed_recipe_is_a_parent_by_name(write) -> None:
    config = loaded(write('extends = "vision_sft_nano"\n[job]\nname = "mine"\n'))
    assert (config.job.task, config.job.name, config.optimizer.lr) == ("vfm", "mine", 1e-4)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("optimizer.lr=5e-5", lambda c: c.optimizer.lr == 5e-5),
        ("job.name=plain words", lambda c: c.job.name == "plain words"),
        ("job.name='007'", lambda c: c.job.name == "007"),
        ("optimizer.betas=[0.5, 0.6]", lambda c: c.optimizer.betas == (0.5, 0.6)),
        ("trainer.max_val_iter=null", lambda c: c.trainer.max_val_iter is None),
        ('optimizer.lr_multipliers."a.b"=3.0', lambda c: c.optimizer.lr_multipliers == {"head": 2.0, "a.b": 3.0}),
        ("dataloader_train.dataset.count=7", lambda c: c.dataloader_train.dataset.count == 7),
        ("model.ema.enabled=false", lambda c: c.model.ema.enabled is False),
        ("custom.anything.at.all=[1]", lambda c: c.custom == {"anything": {"at": {"all": [1]}}}),
    ],
)
def test_overrides_are_toml_values_or_bare_strings(write, override: str, read) -> None:
    assert read(loaded(write(BASE), "--", override))


def test_bad_overrides_are_all_named(write) -> None:
    text = refused(write(BASE), "optimizer.lr", "=3", "optimizer..lr=3")
    assert text.count("command line") >= 3


def test_environment_fills_in_with_defaults_and_inside_strings(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME_FROM_OUTSIDE", "outer")
    monkeypatch.delenv("NOT_THERE", raising=False)
    text = BASE.replace('"base"', '"run-${oc.env:NAME_FROM_OUTSIDE}-${oc.env:NOT_THERE,fallback}"')
    assert loaded(write(text)).job.name == "run-outer-fallback"


def test_a_missing_variable_is_named_with_its_place(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    text = refused(write(BASE.replace('"base"', '"${oc.env:NOT_THERE}"')))
    assert "recipe.toml:3" in text
    assert "NOT_THERE" in text
    assert "export" in text


def test_question_marks_must_be_filled_in(write) -> None:
    path = write(BASE.replace('"base"', '"???"'))
    assert "recipe.toml:3" in refused(path)
    assert loaded(path, "job.name=mine").job.name == "mine"


def test_all_problems_come_at_once_with_file_line_and_nearest_key(write) -> None:
    text = BASE.replace("lr = 1e-3", 'lrr = 1e-3\neps = "small"').replace("hidden = 8", "hidden = 0")
    report = refused(write(text))
    assert "recipe.toml:8" in report
    assert "at least 1" in report
    assert "'lr'" in report
    assert "optimizer.eps" in report
    assert "recipe.toml:11" in report


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lr = 1e-3", 'lr = "1e-3"'),
        ("lr = 1e-3", "lr = true"),
        ("hidden = 8", "hidden = 8.5"),
        ("betas = [0.9, 0.95]", "betas = [0.9]"),
        ("betas = [0.9, 0.95]", "betas = 0.9"),
        ('init = "random"', 'init = "fresh"'),
        ("max_samples_per_batch = 4", ""),
        ('type = "tiny"', 'type = "tinny"'),
        ('task = "tiny"', 'task = "tinny"'),
        ("[trainer.callbacks.grad_clip]", "[trainer.callbacks.gradclip]"),
        ("[optimizer]", "[optimiser]"),
        ("lr = 1e-3", "lr = 1e-3\n[scheduler]\ncycle_lengths = [10, 20]"),
        ("lr = 1e-3", "lr = 1e-3\n[scheduler]\ncycle_lengths = [10]\nwarm_up_steps = [10]"),
    ],
)
def test_lax_and_impossible_values_are_refused_with_their_line(write, old: str, new: str) -> None:
    assert old in BASE
    assert "recipe.toml:" in refused(write(BASE.replace(old, new, 1)))


def test_toml_errors_carry_their_line(write) -> None:
    assert "recipe.toml:2" in refused(write("[job]\nname = \n"))


def test_every_line_of_origins_but_those_without_a_value_is_toml(write) -> None:
    text = show(resolve(write(BASE), plugins=PLUGINS), provenance=True)
    assert "trackers = {}  # default" in text
    for line in text.splitlines():
        assert " = null  # " in line or tomllib.loads(line), line


def test_origins_name_the_file_that_had_the_last_word(write) -> None:
    write(BASE)
    child = write('extends = "recipe.toml"\n[job]\nname = "child"\n', "child.toml")
    provenance = resolve(child, ("optimizer.lr=1.0",), plugins=PLUGINS).provenance
    assert provenance[("job", "name")].file.endswith("child.toml")
    assert provenance[("job", "name")].line == 3
    assert provenance[("job", "task")].file.endswith("recipe.toml")
    assert provenance[("optimizer", "lr")].file == "command line"


def test_a_dump_loads_as_the_same_run(write, tmp_path: Path) -> None:
    config = loaded(write(BASE), 'optimizer.lr_multipliers."a.b"=3.0', "trainer.max_val_iter=null")
    (tmp_path / "config.toml").write_text(to_toml(config))
    again = read_resolved(tmp_path / "config.toml", PLUGINS.registry)
    assert again == config


def test_dates_and_times_are_recorded_in_every_form(write) -> None:
    times = ("custom.a=07:32:00", "custom.b=1979-05-27", "custom.c=1979-05-27T07:32:00Z")
    config = loaded(write(BASE), *times)
    assert "a = 07:32:00\nb = 1979-05-27\nc = 1979-05-27T07:32:00Z" in to_toml(config)
    assert yaml.safe_load(to_yaml(config))["custom"]["a"] == "07:32:00"
    texts = {"a": "07:32:00", "b": "1979-05-27", "c": "1979-05-27T07:32:00+00:00"}
    assert json.loads(dumps(to_plain(config)))["custom"] == texts


@pytest.mark.parametrize(
    "recipe", ["hello", "vision_sft_demo", "vision_sft_edge", "vision_sft_nano", "vision_sft_super"]
)
def test_shipped_recipes_load(recipe: str) -> None:
    assert loaded(recipe).job.name == recipe


def test_nano_is_the_contract_recipe() -> None:
    config = loaded("vision_sft_nano")
    assert config.model.max_num_tokens_after_packing == 45056
    assert config.dataloader_train.max_sequence_length == 45056
    assert config.optimizer.keys_to_select == ("moe_gen", "time_embedder", "vae2llm", "llm2vae")
    assert (config.optimizer.lr, config.optimizer.betas, config.optimizer.eps) == (1e-4, (0.9, 0.95), 1e-6)
    assert (config.scheduler.cycle_lengths, config.scheduler.warm_up_steps) == ((1000,), (50,))
    assert (config.trainer.max_iter, config.trainer.grad_accum_iter, config.checkpoint.save_iter) == (500, 2, 100)
    assert config.trainer.callbacks["grad_clip"].clip_norm == 0.1
    assert config.checkpoint.keys_to_skip_loading == ("net_ema.",)
    dataset = config.dataloader_train.dataset
    assert (dataset.resolution, dataset.num_video_frames, dataset.cfg_dropout_rate) == ("256", -1, 0.1)
    assert dataset.conditioning_config == {"0": 0.7, "1": 0.2, "2": 0.1}
