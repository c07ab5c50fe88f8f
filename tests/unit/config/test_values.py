"""Values are checked where they are read: one problem with file, line and key for each that no run can use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from cosmos_core.config.fields import bounds_of, default_of
from cosmos_core.config.reference import keys_of
from cosmos_core.config.run import RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load

PLUGINS = PluginManager.discover()
DATA = "dataloader_train.dataset"
MIX = f"{DATA}.conditioning_config"
PIXELS = "model = {image_min_pixels = 4096, image_max_pixels = 2048}"
TOKENIZER = "trainer.callbacks.compile_tokenizer"
SHARD = "model.parallelism.data_parallel_shard_degree"
DEMO, REASONER = "vision_sft_demo", "videophy2_demo"
REGEX = "regular expression"


def refused(recipe: str, *overrides: str) -> list[Problem]:
    with pytest.raises(UserError) as error:
        load(recipe, overrides, plugins=PLUGINS)
    return list(error.value.problems)


def loaded(recipe: str, *overrides: str) -> RunConfig:
    return load(recipe, overrides, plugins=PLUGINS)


@pytest.mark.parametrize(
    ("recipe", "line", "key", "words"),
    [
        ("hello", "model.activation_checkpointing.save_ops_regex = ['(']", ".save_ops_regex[0]", REGEX),
        ("hello", "model.activation_checkpointing.save_ops_regex = ['a', '*']", ".save_ops_regex[1]", "'*' is not a"),
        ("hello", "model.activation_checkpointing.save_ops_regex = ['a{99999999999}']", "_regex[0]", REGEX),
        ("hello", "model.activation_checkpointing.save_ops_regex = ['']", "_regex[0]", "matches every name"),
        (REASONER, "model.freeze.frozen_params = ['']", "model.freeze.frozen_params[0]", "matches every name"),
        ("hello", "optimizer.keys_to_select = ['embed', '']", "optimizer.keys_to_select[1]", "part of every name"),
        ("hello", "checkpoint.keys_to_skip_loading = ['']", "keys_to_skip_loading[0]", "part of every name"),
        ("hello", "optimizer.lr_multipliers = { '' = 0.0 }", 'optimizer.lr_multipliers.""', "part of every name"),
        (REASONER, "model.freeze.frozen_params = ['[']", "model.freeze.frozen_params[0]", REGEX),
        (REASONER, "model.freeze.trainable_params = ['(?P<']", "trainable_params[0]", REGEX),
        (DEMO, 'model.flow.shift = { "256" = -3.0 }', "model.flow.shift.256", "must be above 0; got -3.0"),
        (DEMO, 'model.flow.shift = { "300" = 3.0 }', "model.flow.shift.300", "known: '256', '480', '720'"),
        ("hello", "optimizer.lr_multipliers = { embed = -1.0 }", "optimizer.lr_multipliers.embed", "at least 0"),
        ("hello", "optimizer.lr_multipliers = { embed = nan }", "optimizer.lr_multipliers.embed", "finite number"),
        ("hello", "optimizer.lr = inf", "optimizer.lr", "must be a finite number; got inf"),
        ("hello", "optimizer.betas = [0.9, 1.0]", "optimizer.betas[1]", "must be below 1; got 1.0"),
        ("hello", "optimizer.eps = 0", "optimizer.eps", "above 0"),
        ("hello", "dataloader_train.prefetch_factor = 9223372036854775807", "prefetch_factor", "at most 4096"),
        ("hello", "dataloader_val.num_workers = 1000000", "dataloader_val.num_workers", "at most 1024"),
        ("hello", f"{SHARD} = 0", "shard_degree", "at least 1, or -1; got 0"),
        ("hello", "trainer.callbacks.grad_clip.clip_norm = 0", "trainer.callbacks.grad_clip.clip_norm", "above 0"),
        ("hello", "dataloader_train.max_bad_sample_fraction = 1.5", "max_bad_sample_fraction", "at most 1"),
        ("hello", "dataloader_train.num_workers = 'many'", "num_workers", 'whole number or "auto", got "many"'),
        ("hello", "dataloader_train.num_workers = -1", "num_workers", "must be at least 0, or auto; got -1"),
        (DEMO, f"{DATA}.num_video_frames = 0", "num_video_frames", "at least 1, or -1"),
        (DEMO, f"{DATA}.conditioning_fps = -2", "conditioning_fps", "at least 0.01, or -1"),
        (DEMO, f"{DATA}.conditioning_fps = 1e-300", "conditioning_fps", "at least 0.01, or -1"),
        (DEMO, f"{DATA}.conditioning_fps = 1e300", "conditioning_fps", "at most 1000, or -1"),
        (DEMO, MIX + " = {0 = 1.0, 1 = -0.1}", "_config.1", "least 0"),
        (DEMO, MIX + " = {0 = 0.0}", "conditioning_config", "positive"),
        (DEMO, MIX + " = {many = 1.0}", "conditioning_config", "'many'"),
        (DEMO, MIX + " = {0 = 0.5, 00 = 0.5}", "conditioning_config", "'00'"),
        (DEMO, MIX + f" = {{{'9' * 5000} = 1.0}}", "conditioning_config", "numbers of latent frames"),
        (DEMO, f"{DATA}.max_duration = 0", "max_duration", "above 0"),
        (DEMO, f"{DATA}.resolution = 1080", "dataset.resolution", "'720', '768'; got '1080'"),
        (DEMO, f'{DATA}.resolution = "999"', "dataset.resolution", "must be one of '64'"),
        (DEMO, f"{TOKENIZER}.warmup_resolutions = ['999']", "resolutions[0]", "one of"),
        (DEMO, f"{TOKENIZER}.warmup_resolutions = '999'", "resolutions", "a list"),
        (REASONER, PIXELS, "model.image_max_pixels", "below image_min_pixels"),
    ],
)  # fmt: skip
def test_one_problem_with_file_line_and_key(recipe: str, line: str, key: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(f'extends = "{recipe}"\n\n{line}\n')
    (problem,) = refused(str(file))
    assert (problem.file, problem.line) == (str(file), 3)
    assert problem.key.endswith(key)
    assert words in problem.message
    assert [problem.message for problem in refused(recipe, line)] == [problem.message]


def test_each_bad_entry_is_a_problem_at_its_own_line(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('extends = "vision_sft_demo"\n[model.flow.shift]\n256 = -1.0\n480 = 5.0\n720 = 0.0\n666 = 1.0\n')
    assert [(problem.key, problem.line) for problem in refused(str(file))] == [
        ("model.flow.shift.256", 3),
        ("model.flow.shift.720", 5),
        ("model.flow.shift.666", 6),
    ]


def test_a_wrong_type_in_a_list_hides_no_bound_beside_it(tmp_path: Path) -> None:
    found = refused("hello", "optimizer.betas=['x', 0.9]", "optimizer.lr=-1")
    assert {problem.key for problem in found} == {"optimizer.betas[0]", "optimizer.lr"}


@pytest.mark.parametrize(
    ("recipe", "override", "read", "value"),
    [
        (DEMO, f"{DATA}.resolution=256", lambda c: c.dataloader_train.dataset.resolution, "256"),
        (DEMO, "dataloader_val.dataset.resolution=64", lambda c: c.dataloader_val.dataset.resolution, "64"),
        (
            DEMO,
            f"{TOKENIZER}.warmup_resolutions=[256, '480']",
            lambda c: c.trainer.callbacks["compile_tokenizer"].warmup_resolutions,
            ("256", "480"),
        ),
        ("hello", 'trainer.max_iter="70"', lambda c: c.trainer.max_iter, 70),
        ("hello", 'scheduler.cycle_lengths=["80"]', lambda c: c.scheduler.cycle_lengths, (80,)),
        ("hello", f'{DATA}.count="12"', lambda c: c.dataloader_train.dataset.count, 12),
        ("hello", f'{SHARD}="-1"', lambda c: c.model.parallelism.data_parallel_shard_degree, -1),
    ],
)  # fmt: skip
def test_digits_are_read_as_what_is_meant(recipe: str, override: str, read: Any, value: Any, tmp_path: Path) -> None:
    assert read(loaded(recipe, override)) == value
    file = tmp_path / "recipe.toml"
    file.write_text(f'extends = "{recipe}"\n{override}\n')
    assert read(loaded(str(file))) == value


@pytest.mark.parametrize(
    "override",
    ['trainer.max_iter="7.0"', 'trainer.max_iter="ten"', 'trainer.max_iter=""', "trainer.max_iter=7.0",
     'optimizer.lr="1.0"', "job.name=7", f"{DATA}.resolution=256.0", f"{DATA}.resolution=true"],
)  # fmt: skip
def test_other_words_and_numbers_are_not_converted(override: str) -> None:
    (problem,) = refused(DEMO, override)
    assert "expected" in problem.message


def test_every_number_has_a_range_that_its_default_keeps() -> None:
    """A new key of a number says which numbers it takes."""
    numbers = [
        key for section in PLUGINS.registry.sections() for key in keys_of(section)
        if "number" in key.type or "integer" in key.type
    ]  # fmt: skip
    assert len(numbers) > 60
    assert [key.name for key in numbers if not key.bounds] == []
    for section in PLUGINS.registry.sections():
        for field in attrs.fields(section.cls):
            if field.validator is not None and default_of(field) is not attrs.NOTHING:
                bounds_of(field).check(None, field, default_of(field))
