"""Validation data is replaced in a configuration, for evaluating on any dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from cosmos_core.config.dump import to_toml
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.recipes.loading import load_recorded
from cosmos_core.recipes.with_dataset import dataset_table, with_dataset

PLUGINS = PluginManager.discover()


def test_data_is_recognised_and_a_name_is_a_type(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    assert dataset_table(str(rows), PLUGINS) == {"type": "chat", "path": str(rows)}
    assert dataset_table("llava_ov", PLUGINS) == {"type": "llava_ov"}
    with pytest.raises(UserError, match="no dataset 'llava_of'"):
        dataset_table("llava_of", PLUGINS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="this is no known data") as refusal:
        dataset_table(str(tmp_path / "empty"), PLUGINS)
    assert "a spreadsheet is read when it is saved as CSV" in refusal.value.problems[0].message


def test_other_data_keeps_batches_and_model_and_takes_overrides() -> None:
    config = load("videophy2_sft_nano", plugins=PLUGINS)
    dataset = {"type": "chat", "path": "rows.jsonl"}
    found = with_dataset(config, "vlm", dataset, ["dataloader_val.dataset.max_frames=8"], plugins=PLUGINS)
    assert not found.notes  # Of a file that nobody wrote.
    resolved = found.config
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
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.txt").write_text("a ball")
    dataset = dataset_table(str(tmp_path), PLUGINS)
    data = with_dataset(config, "vfm", dataset, [], plugins=PLUGINS).config.dataloader_val
    assert data is not None
    clips = data.dataset
    assert (clips.type, clips.place, clips.resolution) == ("folder", str(tmp_path), "256")  # type: ignore[attr-defined]
    assert (clips.cfg_dropout_rate, clips.validation) == (0, 0)  # type: ignore[attr-defined]
    assert clips.temporal_interval_mode == "max_30fps"  # type: ignore[attr-defined]


def test_the_validation_split_of_a_prepared_folder_is_read_unless_another_is_named(tmp_path: Path) -> None:
    config = load("vision_sft_nano", plugins=PLUGINS)
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "video_dataset_file.jsonl").write_text('{"uuid": "a", "vision_path": "a.mp4"}\n')
    dataset = dataset_table(str(tmp_path), PLUGINS)
    splits = {"val": [], "train": ["dataloader_val.dataset.split=train"]}
    for split, overrides in splits.items():
        data = with_dataset(config, "vfm", dataset, overrides, plugins=PLUGINS).config.dataloader_val
        assert data is not None
        assert data.dataset.split == split  # type: ignore[attr-defined]
    (tmp_path / "val" / "video_dataset_file.jsonl").write_text("")
    for named in (tmp_path, tmp_path / "train" / "video_dataset_file.jsonl"):
        assert dataset_table(str(named), PLUGINS)["split"] == "train"


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


def test_values_that_were_filled_in_once_are_not_filled_in_again(tmp_path: Path) -> None:
    """A folder may be called like a variable; so may what a variable holds."""
    text = "${oc.env:HOME}/${oc.env:NOT_SET}"
    overrides = [f'dataloader_val.dataset.caption_suffix="{text.replace("${", "${now:$}{")}"']
    config = load("vision_sft_demo", overrides, plugins=PLUGINS)
    assert config.dataloader_val is not None
    recorded = tmp_path / "config.toml"
    recorded.write_text(to_toml(config))
    again = load_recorded(recorded, ["trainer.max_iter=3"], plugins=PLUGINS)
    assert again == evolve(config, trainer=evolve(config.trainer, max_iter=3))
    table = {"type": "bridge", "path": text}
    evaluated = with_dataset(config, "vfm", table, ["trainer.max_iter=3"], plugins=PLUGINS).config
    assert evaluated.dataloader_val is not None
    assert evaluated.dataloader_val.dataset.place == text
