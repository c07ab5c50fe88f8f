"""The commands of the user's guide with a Hub that answers: names, pins, caches made of links, lost connections."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from diffusers import Cosmos3OmniTransformer
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from transformers import Qwen3VLForConditionalGeneration

from cosmos_core.checkpoint import stored_keys
from cosmos_core.errors import UserError
from cosmos_core.hub import contained, fetch
from cosmos_core.plugin import CheckpointSpec
from cosmos_data_bridge.published import REPOSITORY
from cosmos_vfm.sizes import MODEL_SIZES, NetworkConfig
from cosmos_vlm.catalog import PINNED
from tests.command import cosmos
from tests.fake_hub import COMMIT, FakeHub, serving
from tests.tiny_generator import write_generator
from tests.tiny_reasoner import write_reasoner

NANO = "nvidia/Cosmos3-Nano"
QWEN = "Qwen/Qwen3-VL-2B-Instruct"
MATCHING = NetworkConfig(hidden=32, layers=3, heads=4, kv_heads=2, head_dim=16, mlp=48, vocab=264)
"""A generator whose understanding tower has the tiny reasoner's sizes."""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As released: folders of components, shards with an index, files of the processor and an index at the root."""
    root = write_generator(tmp_path_factory.mktemp("released"), MODEL_SIZES["tiny"])
    transformer = Cosmos3OmniTransformer.from_pretrained(root / "transformer")
    shutil.rmtree(root / "transformer")
    transformer.to(torch.bfloat16).save_pretrained(root / "transformer", max_shard_size="2MB")
    index = json.loads((root / "transformer/diffusion_pytorch_model.safetensors.index.json").read_text())
    places = {name: f"transformer/{file}" for name, file in index["weight_map"].items()}
    (root / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (root / "preprocessor_config.json").write_text('{"patch_size": 16}')
    return root


@contextmanager
def hub_of(root: Path, repo: str, home: Path, kind: str = "models") -> Iterator[tuple[FakeHub, dict[str, str]]]:
    with serving(root, repo, kind) as hub:
        yield hub, {"HF_ENDPOINT": hub.url, "HF_HOME": str(home)}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


def test_a_name_converts_through_the_cache_and_exports_when_the_download_is_gone(
    published: Path, tmp_path: Path
) -> None:
    base, home = tmp_path / "base", tmp_path / "home"
    with hub_of(published, NANO, home) as (hub, variables):
        lost = next(str(path.relative_to(published)) for path in (published / "transformer").glob("*-00001-of-*"))
        hub.cut[lost] = 1000
        printed = cosmos("convert", "Cosmos3-Nano", "-o", str(base), env=variables).stdout
        assert not hub.cut
    assert f"origin: {NANO}@{COMMIT}" in printed
    assert "components: scheduler, vae, text_tokenizer" in printed
    assert any(path.is_symlink() for path in home.rglob("*.safetensors"))
    assert json.loads((base / "base.json").read_text())["origin"] == f"{NANO}@{COMMIT}"
    shutil.rmtree(home)
    cosmos("export", str(base), "-o", str(tmp_path / "out"), "--task", "vfm", "--verify")
    found, expected = weights(tmp_path / "out/transformer"), weights(published / "transformer")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    for name in ("model_index.json", "preprocessor_config.json", "scheduler/scheduler_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (published / name).read_bytes()
    assert weights(tmp_path / "out/vae").keys() == weights(published / "vae").keys()
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())["weight_map"]
    assert index.keys() == found.keys()
    assert all((tmp_path / "out" / file).is_file() for file in index.values())


def test_a_fetched_checkpoint_is_a_folder_and_offline_it_is_found_in_the_cache(published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    with hub_of(published, NANO, tmp_path / "home") as (_, variables):
        printed = cosmos("checkpoints", "fetch", "Cosmos3-Nano", "-o", str(folder), env=variables).stdout
        assert f"path: {folder}" in printed
        cosmos("checkpoints", "fetch", "Cosmos3-Nano", env=variables)
    assert weights(folder / "transformer").keys() == weights(published / "transformer").keys()
    offline = {**variables, "HF_HUB_OFFLINE": "1"}
    cosmos("convert", NANO, "-o", str(tmp_path / "base"), env=offline)
    assert stored_keys(tmp_path / "base/model")


def test_what_the_hub_does_not_have_is_one_clear_error(published: Path, tmp_path: Path) -> None:
    with hub_of(published, NANO, tmp_path / "home") as (_, variables):
        said = cosmos("convert", "Cosmos3-Super", "-o", str(tmp_path / "out"), env=variables, code=2).stderr
    assert "'Cosmos3-Super' cannot be fetched" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_of_a_backbone_only_the_shards_with_its_tower_are_fetched(tmp_path: Path) -> None:
    """A generator's language model on the tower of a sharded Qwen3-VL; the rest of its weights stay where they are."""
    write_reasoner(tmp_path / "whole")
    model = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "qwen", max_shard_size="60KB")
    for path in (tmp_path / "whole").glob("*.json"):
        if not (tmp_path / "qwen" / path.name).exists() and "index" not in path.name:
            shutil.copyfile(path, tmp_path / "qwen" / path.name)
    shards = {path.name for path in (tmp_path / "qwen").glob("*.safetensors")}
    source = write_generator(tmp_path / "generator", MATCHING)
    with hub_of(tmp_path / "qwen", QWEN, tmp_path / "home") as (hub, variables):
        arguments = ("convert", str(source), "-o", str(tmp_path / "merged"), "--to", "vlm", "--backbone", QWEN)
        cosmos(*arguments, "--vision", "qwen", env=variables)
        asked = {name for name, _ in hub.asked if name.endswith(".safetensors")}
    assert asked < shards
    merged = weights(tmp_path / "merged")
    wanted = {name: value for name, value in model.state_dict().items() if name.startswith("model.visual.")}
    assert all(torch.equal(merged[name], value.to(torch.bfloat16)) for name, value in wanted.items())


def test_a_run_says_which_commit_its_backbone_is_of_and_resumes_without_its_weights(tmp_path: Path) -> None:
    write_reasoner(tmp_path / "qwen")
    cosmos("data", "prepare", "videophy2", "--synthetic", "10", "--val", "5", "-o", str(tmp_path / "physics"))
    command = (
        *("run", "videophy2_demo", "--output-root", str(tmp_path / "runs"), f"model.backbone.model_name={QWEN}"),
        f"model.backbone.safetensors_path={QWEN}",
        *("model.init=pretrained", "trainer.run_validation=false", "scheduler.cycle_lengths=[4]"),
        *("scheduler.warm_up_steps=[1]", "dataloader_train.max_samples_per_batch=2", "model.video_min_pixels=1024"),
    )
    run_dir = tmp_path / "runs/cosmos3/sft/videophy2_demo"
    with hub_of(tmp_path / "qwen", QWEN, tmp_path / "home") as (_, variables):
        places = {**variables, "VIDEOPHYSICS_ROOT": str(tmp_path / "physics")}
        cosmos(*command, "trainer.max_iter=2", env=places)
        fetched = yaml.safe_load((run_dir / "launch_info.yaml").read_text())["fetched"]
        for key in ("model_name", "safetensors_path"):
            assert fetched[f"model.backbone.{key}"] == f"{QWEN}@{PINNED[QWEN]}"
        for weights_file in (tmp_path / "home").rglob("*.safetensors"):
            weights_file.unlink()
    resumed = cosmos(*command, "trainer.max_iter=4", env={**places, "HF_HUB_OFFLINE": "1"})
    assert "resume from" in resumed.stderr


def test_the_published_dataset_is_fetched_at_its_commit(tmp_path: Path) -> None:
    drawn = tmp_path / "data/sft_dataset_bridge"
    cosmos("data", "prepare", "bridge", "--synthetic", "4", "--val", "2", "-o", str(drawn))
    with hub_of(tmp_path / "data", REPOSITORY, tmp_path / "home", "datasets") as (_, variables):
        printed = cosmos("data", "prepare", "bridge", "-o", str(tmp_path / "copy"), env=variables).stdout
        assert f"dataset: {tmp_path / 'copy/sft_dataset_bridge'}" in printed
        cosmos("data", "prepare", "bridge", "-o", str(tmp_path / "copy"), env=variables)
    files = [path for path in drawn.rglob("*") if path.is_file()]
    assert files
    copy = tmp_path / "copy/sft_dataset_bridge"
    assert all((copy / path.relative_to(drawn)).read_bytes() == path.read_bytes() for path in files)


def test_links_lead_out_of_a_snapshot_only_to_its_own_blobs(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b/snapshots/1/folder"
    blobs, other = tmp_path / "models--a--b/blobs", tmp_path / "models--c--d/blobs"
    for folder in (snapshot, blobs, other):
        folder.mkdir(parents=True)
    for blob in (blobs / "x", other / "y", tmp_path / "secret"):
        blob.write_text("here")
        (snapshot / blob.name).symlink_to(os.path.relpath(blob, snapshot))
    assert contained(snapshot / "x", snapshot) == blobs / "x"
    assert contained(snapshot / "x", snapshot.parent) == blobs / "x"
    for path in (snapshot / "y", snapshot / "secret", snapshot / "../x", Path("/etc/hostname"), snapshot / "../../.."):
        with pytest.raises(ValueError, match="outside"):
            contained(path, snapshot)


def test_a_download_that_breaks_off_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client lets its HTTP library's errors pass, some of them without a word."""

    class ReadTimeout(HfHubHTTPError.__bases__[0]):  # type: ignore[misc, name-defined]
        """As of whichever library the client is built on."""

    def broken(*arguments: Any, **options: Any) -> str:
        raise ReadTimeout("")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(UserError, match="cannot be fetched") as refused:
        fetch(CheckpointSpec(name="Cosmos3-Nano", summary="", repo=NANO, revision="main"))
    assert "ReadTimeout" in refused.value.problems[0].message
