"""Data is opened before a network is built, and all ranks hear of it when one cannot open it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cosmos_core.data.jsonl import ClipIndex
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.make import make_plan
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load
from cosmos_core.train import build
from cosmos_core.train.agreement import CollectiveError
from cosmos_core.train.sample_reader import open_readers
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.index import read_index
from tests.fixtures.runs import FOLDERS

PLUGINS = PluginManager.discover()


def build_fails(root: Path, monkeypatch: pytest.MonkeyPatch) -> CollectiveError:
    """What building a trainer raises; nothing of the model may have been built by then."""

    def too_early(*arguments: object) -> None:
        raise AssertionError("a model is built although the data cannot be opened")

    monkeypatch.setattr(build, "build_family", too_early)
    overrides = ["dataloader_train.dataset.path=" + str(root), "dataloader_val.dataset.path=" + str(root)]
    config = load("vision_sft_demo", overrides, plugins=PLUGINS)
    plan = make_plan(config, output_root=root / "runs", world=1, distributions={})
    with pytest.raises(CollectiveError) as refused:
        build.build_trainer(plan, PLUGINS, local_mesh())
    assert not (root / "runs").exists()
    return refused.value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return shutil.copytree(FOLDERS / "format_1/bridge", tmp_path / "bridge")


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("change", ["missing", "damaged", "a folder"])
def test_nothing_is_built_when_a_split_cannot_be_opened(
    split: str, change: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = root / split / "video_dataset_file.jsonl"
    if change == "damaged":
        index.write_text("{}\n")
    else:
        index.unlink()
    if change == "a folder":
        index.mkdir()
    error = build_fails(root, monkeypatch)
    assert str(index) in f"{error} {[problem.file for problem in error.problems]}"


def test_what_the_system_refuses_to_read_is_a_user_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(config: object) -> None:
        raise PermissionError(13, "Permission denied", "index.jsonl")

    monkeypatch.setattr("cosmos_data_bridge.dataset.read_index", denied)
    error = build_fails(root, monkeypatch)
    assert error.title == "dataset 'bridge' cannot be opened; nothing was started"
    assert (error.problems[0].file, error.problems[0].message) == ("index.jsonl", "Permission denied")


def test_a_fault_of_the_validation_data_is_at_its_own_key_where_data_is_read_without_a_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(config: BridgeConfig) -> ClipIndex:
        if config.split == "val":
            raise UserError("bad", [Problem(message="is bad", key="dataloader_train.dataset.path")])
        return read_index(config)

    monkeypatch.setattr("cosmos_data_bridge.dataset.read_index", refused)
    overrides = [f"dataloader_{part}.dataset.path={root}" for part in ("train", "val")]
    with pytest.raises(UserError) as error:
        open_readers(load("vision_sft_demo", overrides, plugins=PLUGINS), PLUGINS)
    assert [problem.key for problem in error.value.problems] == ["dataloader_val.dataset.path"]
