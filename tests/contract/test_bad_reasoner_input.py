"""A reasoner's users' mistakes, end to end: one message, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.command import cosmos
from tests.physics import write_physics
from tests.tiny_reasoner import write_reasoner

SMALL = (
    "model.precision=float32",
    "model.backbone.safetensors_path=null",
    "model.parallelism.data_parallel_shard_degree=-1",
    "model.parallelism.data_parallel_replicate_degree=1",
    "trainer.max_iter=2",
    "trainer.grad_accum_iter=1",
    "trainer.run_validation=false",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[1]",
    "dataloader_train.num_workers=0",
    "model.image_min_pixels=1024",
    "model.video_min_pixels=1024",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reasoner")
    write_reasoner(root / "tiny")
    write_physics(root / "videophysics", train=6, val=2)
    return root


def refused(place: Path, root: Path, *more: str, backbone: Path | str | None = None, **env: str) -> str:
    name = f"model.backbone.model_name={backbone or place / 'tiny'}"
    environment = {"VIDEOPHYSICS_ROOT": str(place / "videophysics"), **env}
    run = ("run", "videophy2_sft_nano", "--output-root", str(root / "runs"), *SMALL, name, *more)
    said = cosmos(*run, env=environment, code=2).stderr
    assert "Traceback" not in said
    assert not list((root / "runs").rglob("iter_*"))
    return said


def test_an_unknown_backbone_folder(place: Path, tmp_path: Path) -> None:
    assert "no such folder" in refused(place, tmp_path, backbone=tmp_path / "none")


def test_a_backbone_name_without_a_network(place: Path, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    said = refused(place, tmp_path, backbone="Qwen/Qwen3-VL-none", **offline)
    assert "Qwen/Qwen3-VL-none" in said


def test_a_missing_shard(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "tiny", tmp_path / "cut")
    weights = load_file(tmp_path / "cut/model.safetensors")
    names = sorted(weights)
    save_file({name: weights[name] for name in names[: len(names) // 2]}, tmp_path / "cut/model.safetensors")
    said = refused(place, tmp_path, backbone=tmp_path / "cut")
    assert "tensors are missing" in said
    assert "model.visual" in said


def test_a_backbone_without_a_tokenizer(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "tiny", tmp_path / "mute")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "mute" / name).unlink()
    assert "tokenizer" in refused(place, tmp_path, backbone=tmp_path / "mute")


def test_a_tokenizer_of_another_model(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "tiny", tmp_path / "other")
    path = tmp_path / "other/tokenizer.json"
    path.write_text(path.read_text().replace("<|video_pad|>", "<|other_pad|>"))
    config = tmp_path / "other/tokenizer_config.json"
    config.write_text(config.read_text().replace("<|video_pad|>", "<|other_pad|>"))
    assert "<|video_pad|>" in refused(place, tmp_path, backbone=tmp_path / "other")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: shutil.rmtree(folder / "media"), "file is missing"),
        (
            lambda folder: [
                path.write_text(json.dumps([{"role": "user", "content": "Hello?"}]))
                for path in (folder / "text").iterdir()
            ],
            "the assistant says nothing",
        ),
    ],
    ids=["media missing", "no assistant turn"],
)
def test_data_that_cannot_be_used_ends_the_run_with_the_reasons(
    place: Path, tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    shutil.copytree(place / "videophysics", tmp_path / "data")
    damage(tmp_path / "data/videophy2_train")
    said = refused(place, tmp_path, VIDEOPHYSICS_ROOT=str(tmp_path / "data"))
    assert reason in said
    assert "max_skipped" in said


def test_a_clip_larger_than_the_sequence_is_named_not_cut(place: Path, tmp_path: Path) -> None:
    said = refused(place, tmp_path, "dataloader_train.max_sequence_length=40")
    assert "conversation_000" in said
    assert "can never fit under 40" in said


def test_a_dataset_that_is_not_there(place: Path, tmp_path: Path) -> None:
    said = refused(place, tmp_path, VIDEOPHYSICS_ROOT=str(tmp_path / "none"))
    assert "videophy2_train/meta.json" in said
    assert "VIDEOPHYSICS_ROOT" in said


def test_an_image_that_does_not_decode_is_skipped_with_its_row(place: Path, tmp_path: Path) -> None:
    rows = []
    for number in range(6):
        data = io.BytesIO()
        Image.new("RGB", (64, 64), (30 * number, 0, 0)).save(data, "PNG")
        content = data.getvalue() if number != 2 else b"rubbish"
        said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Red"}]
        rows.append({"id": f"row{number}", "image": {"bytes": content, "path": None}, "conversations": said})
    (tmp_path / "pictures").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pictures/a.parquet")
    done = cosmos(
        *("run", "llava_ov", "--output-root", str(tmp_path / "runs"), *SMALL),
        *(f"model.backbone.model_name={place / 'tiny'}", f"dataloader_train.dataset.path={tmp_path / 'pictures'}"),
        *("dataloader_train.max_skipped=0.5", "dataloader_train.max_sequence_length=120"),
    )
    assert "skipped row2: image cannot be read" in done.stderr


def test_an_attention_that_is_not_installed(place: Path, tmp_path: Path) -> None:
    said = refused(place, tmp_path, "model.attn_implementation=flash_attention_2")
    assert "flash_attn" in said
    assert "pip install flash-attn" in said
