"""Validation data is replaced in a configuration, for evaluating on any dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.recipes.with_dataset import dataset_table, with_dataset

PLUGINS = PluginManager.discover()


def test_a_file_becomes_the_tasks_own_dataset_and_a_name_its_type(tmp_path: Path) -> None:
    assert dataset_table(str(tmp_path), "vlm", PLUGINS) == {"type": "chat", "path": str(tmp_path)}
    assert dataset_table("llava_ov", "vlm", PLUGINS) == {"type": "llava_ov"}
    with pytest.raises(UserError, match="no dataset 'llava_of'"):
        dataset_table("llava_of", "vlm", PLUGINS)
    with pytest.raises(UserError, match="no installed dataset for task 'tiny'"):
        dataset_table(str(tmp_path), "tiny", PLUGINS)


def test_other_data_keeps_batches_and_model_and_takes_overrides() -> None:
    config = load("videophy2_sft_nano", plugins=PLUGINS)
    dataset = {"type": "chat", "path": "rows.jsonl"}
    resolved = with_dataset(config, "vlm", dataset, ["dataloader_val.dataset.max_frames=8"], plugins=PLUGINS).config
    assert resolved.model == config.model
    assert resolved.dataloader_train == config.dataloader_train
    data, own = resolved.dataloader_val, config.dataloader_val
    assert data is not None
    assert own is not None
    assert (data.max_sequence_length, data.overlong, data.shuffle) == (own.max_sequence_length, own.overlong, False)
    assert (data.dataset.type, data.dataset.place) == ("chat", "rows.jsonl")
    assert (data.dataset.max_frames, own.dataset.max_frames) == (8, 32)  # type: ignore[attr-defined]


def test_own_clips_are_read_as_those_of_the_run_without_what_training_draws(tmp_path: Path) -> None:
    config = load("vision_sft_nano", plugins=PLUGINS)
    dataset = dataset_table(str(tmp_path), "vfm", PLUGINS)
    data = with_dataset(config, "vfm", dataset, [], plugins=PLUGINS).config.dataloader_val
    assert data is not None
    clips = data.dataset
    assert (clips.type, clips.place, clips.resolution) == ("folder", str(tmp_path), "256")  # type: ignore[attr-defined]
    assert (clips.cfg_dropout_rate, clips.validation) == (0, 0)  # type: ignore[attr-defined]
    assert clips.temporal_interval_mode == "max_30fps"  # type: ignore[attr-defined]


def test_data_of_the_same_type_keeps_the_options_that_are_not_given() -> None:
    config = load("vision_sft_nano", plugins=PLUGINS)
    path = ["dataloader_val.dataset.path=elsewhere"]
    data = with_dataset(config, "vfm", {"type": "bridge"}, path, plugins=PLUGINS).config.dataloader_val
    assert data is not None
    assert config.dataloader_val is not None
    assert data.dataset.place == "elsewhere"
    assert data.dataset.resolution == config.dataloader_val.dataset.resolution == "256"  # type: ignore[attr-defined]


def test_without_a_configuration_the_task_has_its_defaults() -> None:
    dataset = {"type": "chat", "path": "rows.jsonl"}
    resolved = with_dataset(None, "vlm", dataset, ["model.max_new_tokens=5"], plugins=PLUGINS).config
    assert (resolved.job.task, resolved.model.max_new_tokens) == ("vlm", 5)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="1 problem in the settings of the evaluation") as caught:
        with_dataset(None, "vlm", dataset, ["model.max_new_token=5"], plugins=PLUGINS)
    (problem,) = caught.value.problems
    assert (problem.key, problem.file) == ("model.max_new_token", "command line")
