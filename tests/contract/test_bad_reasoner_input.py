"""A reasoner's users' mistakes, end to end: one message, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen3VLForConditionalGeneration

from cosmos_vfm.sizes import NetworkConfig
from tests.command import cosmos
from tests.physics import write_physics
from tests.tiny_generator import write_generator
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


def run(place: Path, root: Path, *more: str, backbone: Path | str | None = None, code: int = 0, **env: str) -> str:
    name = f"model.backbone.model_name={backbone or place / 'tiny'}"
    environment = {"VIDEOPHYSICS_ROOT": str(place / "videophysics"), **env}
    arguments = ("run", "videophy2_sft_nano", "--output-root", str(root / "runs"), *SMALL, name, *more)
    return cosmos(*arguments, env=environment, code=code).stderr


def refused(place: Path, root: Path, *more: str, backbone: Path | str | None = None, **env: str) -> str:
    said = run(place, root, *more, backbone=backbone, code=2, **env)
    assert "Traceback" not in said
    assert not list((root / "runs").rglob("iter_*"))
    return said


def test_an_unknown_backbone_folder(place: Path, tmp_path: Path) -> None:
    assert "no such folder" in refused(place, tmp_path, backbone=tmp_path / "none")


def test_a_backbone_name_without_a_network(place: Path, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    said = refused(place, tmp_path, backbone="Qwen/Qwen3-VL-none", **offline)
    assert "Qwen/Qwen3-VL-none" in said


def test_a_backbone_folder_without_a_configuration(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "tiny", tmp_path / "bare")
    (tmp_path / "bare/config.json").unlink()
    said = refused(place, tmp_path, backbone=tmp_path / "bare")
    assert "has no config.json" in said
    assert "model.backbone.model_name" in said


def test_all_that_a_backbone_folder_lacks_is_told_by_a_dry_run(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "tiny", tmp_path / "bare")
    for file in ("tokenizer.json", *(path.name for path in (tmp_path / "bare").glob("*.safetensors"))):
        (tmp_path / "bare" / file).unlink()
    said = refused(place, tmp_path, "--dry-run", "dataloader_train.dataset.path=nowhere", backbone=tmp_path / "bare")
    assert "3 problems" in said
    assert f"model.backbone.model_name: {tmp_path / 'bare'} has no tokenizer.json" in said
    assert f"model.backbone.model_name: {tmp_path / 'bare'} has no weights" in said
    assert "tiny has no weights" in refused(place, tmp_path, "--dry-run", backbone="tiny")


def of_another_type(text: str) -> str:
    """A configuration with a word where a number belongs."""
    config = json.loads(text)
    config["text_config"]["hidden_size"] = "many"
    return json.dumps(config, indent=2)


@pytest.mark.parametrize(
    ("damage", "reasons"),
    [
        (lambda text: text[: len(text) // 2], ("config.json:", "Unterminated string")),
        (lambda text: "[]", ("config.json", "not a JSON object")),
        (lambda text: "{}", ("config.json", "names no model_type")),
        (lambda text: text.replace('"qwen3_vl"', '"bert"'), ("config.json", "is of a 'bert' model")),
        (of_another_type, ("config.json", "hidden_size")),
    ],
    ids=["cut short", "a list", "empty", "another model's", "of a wrong type"],
)
def test_a_backbones_configuration_that_cannot_be_used(
    place: Path, tmp_path: Path, damage: Callable[[str], str], reasons: tuple[str, str]
) -> None:
    shutil.copytree(place / "tiny", tmp_path / "odd")
    file = tmp_path / "odd/config.json"
    file.write_text(damage(file.read_text()))
    said = refused(place, tmp_path, backbone=tmp_path / "odd")
    assert str(tmp_path / "odd" / reasons[0]) in said
    assert reasons[1] in said


def test_a_backbone_to_merge_onto_that_is_none(tmp_path: Path) -> None:
    """A folder that is not there, a name that cannot be one, a folder without a model."""
    network = NetworkConfig(hidden=32, layers=1, heads=4, kv_heads=2, head_dim=16, mlp=48, vocab=264)
    write_generator(tmp_path / "generator", network)
    (tmp_path / "empty").mkdir()
    named = {
        str(tmp_path / "none/x"): f"no such folder: {tmp_path / 'none/x'}",
        "../none": "no such folder: ../none",
        "two words": "'two words' is not a valid name on the Hub",
        str(tmp_path / "empty"): str(tmp_path / "empty/config.json"),
    }
    for backbone, reason in named.items():
        arguments = ("convert", str(tmp_path / "generator"), "-o", str(tmp_path / "out"), "--to", "vlm")
        said = cosmos(*arguments, "--backbone", backbone, code=2).stderr
        assert reason in said
        assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_shard_that_is_gone_is_named(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "tiny", tmp_path / "sharded")
    (tmp_path / "sharded/model.safetensors").unlink()
    model = Qwen3VLForConditionalGeneration.from_pretrained(place / "tiny")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="60KB")
    shards = sorted((tmp_path / "sharded").glob("*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    said = refused(place, tmp_path, backbone=tmp_path / "sharded")
    assert "model.safetensors.index.json" in said
    assert f"names {shards[1].name}, which is missing" in said
    (tmp_path / "sharded/model.safetensors.index.json").write_text("{}")
    assert "an index of weights is damaged" in refused(place, tmp_path, backbone=tmp_path / "sharded")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("frozen_params", '["("]', "'(' is not a regular expression"),
        ("trainable_params", '["visual", "*"]', "'*' is not a regular expression"),
        ("frozen_params", '["visal"]', "'visal' matches no parameter's name"),
        ("trainable_params", '["lm_head", "^visual"]', "'^visual' matches no parameter's name"),
    ],
)
def test_a_choice_of_parameters_that_cannot_be_meant(
    place: Path, tmp_path: Path, key: str, value: str, reason: str
) -> None:
    said = refused(place, tmp_path, f"model.freeze.{key}={value}")
    assert reason in said
    assert f"model.freeze.{key}" in said


def test_what_trains_and_what_does_not_at_once(place: Path, tmp_path: Path) -> None:
    both = ('model.freeze.frozen_params=["visual"]', 'model.freeze.trainable_params=["lm_head"]')
    said = refused(place, tmp_path, *both)
    assert "model.freeze.trainable_params" in said
    assert "frozen_params is set too" in said


def test_weights_that_lack_tensors(place: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "[]"),
        ("tokenizer.json", '{"version": "9", "model": {"type": "Newer"}}'),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"tokenizer_class": 3}'),
    ],
)
def test_a_damaged_tokenizer(place: Path, tmp_path: Path, name: str, content: str) -> None:
    shutil.copytree(place / "tiny", tmp_path / "damaged")
    (tmp_path / "damaged" / name).write_text(content)
    said = refused(place, tmp_path, backbone=tmp_path / "damaged")
    assert f"the tokenizer in {tmp_path / 'damaged'}" in said


def test_a_tokenizer_of_another_model(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "tiny", tmp_path / "other")
    path = tmp_path / "other/tokenizer.json"
    path.write_text(path.read_text().replace("<|video_pad|>", "<|other_pad|>"))
    config = tmp_path / "other/tokenizer_config.json"
    config.write_text(config.read_text().replace("<|video_pad|>", "<|other_pad|>"))
    assert "<|video_pad|>" in refused(place, tmp_path, backbone=tmp_path / "other")


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "tiny", tmp_path / "large")
    path = tmp_path / "large/tokenizer.json"
    tokenizer = json.loads(path.read_text())
    last = tokenizer["added_tokens"][-1]
    tokenizer["added_tokens"] += [{**last, "id": number, "content": f"<|{number}|>"} for number in (263, 264)]
    path.write_text(json.dumps(tokenizer))
    said = refused(place, tmp_path, backbone=tmp_path / "large")
    assert "its ids go up to 264, the model's embedding has 264 rows" in said


def test_a_configuration_that_counts_its_vision_tokens_otherwise(place: Path, tmp_path: Path) -> None:
    """It counts where it has them: the network itself needs the two pads alone."""
    shutil.copytree(place / "tiny", tmp_path / "other")
    path = tmp_path / "other/config.json"
    config = json.loads(path.read_text())
    start, end = config.pop("vision_start_token_id"), config.pop("vision_end_token_id")
    path.write_text(json.dumps({**config, "vision_start_token_id": end, "vision_end_token_id": start}))
    said = refused(place, tmp_path, backbone=tmp_path / "other")
    assert f"<|vision_start|> is {start}, the model's vision_start_token_id is {end}" in said
    assert f"<|vision_end|> is {end}, the model's vision_end_token_id is {start}" in said
    path.write_text(json.dumps(config))
    run(place, tmp_path, backbone=tmp_path / "other")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: shutil.rmtree(folder / "media"), "file is missing"),
        (
            lambda folder: [
                path.write_text(json.dumps([{"role": "user", "content": "Hello?"}]))
                for path in (folder / "text").iterdir()
            ],
            "no turn is an answer of the assistant",
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
    assert "max_bad_sample_fraction" in said


def test_a_clip_larger_than_the_sequence_is_named_not_cut(place: Path, tmp_path: Path) -> None:
    said = refused(place, tmp_path, "dataloader_train.max_sequence_length=40", "dataloader_train.overlong=error")
    assert "conversation_000" in said
    assert "can never fit under 40" in said


def rows_of(folder: Path, said: list[dict[str, str]], size: tuple[int, int], count: int = 6) -> Path:
    """A local copy of one dialog about a picture of (width, height), several times."""
    data = io.BytesIO()
    Image.new("RGB", size, (30, 60, 90)).save(data, "PNG")
    image = {"bytes": data.getvalue(), "path": None}
    rows = [{"id": f"row{number}", "image": image, "conversations": said} for number in range(count)]
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    return folder


def dialog(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]


@pytest.mark.parametrize(
    ("said", "size"),
    [
        (dialog("What?", "Red"), (640, 640)),
        (dialog("What? " * 40, "Red"), (32, 32)),
        (dialog("What?", "Red, " * 40), (32, 32)),
        ([*dialog("What?", "Red"), *dialog("And now?", "Blue") * 12], (32, 32)),
    ],
    ids=["picture", "question", "answer", "turns"],
)
def test_a_dialog_larger_than_the_sequence_is_named_not_cut(
    place: Path, tmp_path: Path, said: list[dict[str, str]], size: tuple[int, int]
) -> None:
    """With `overlong` as it is by default; the recipe leaves such dialogs out."""
    data = rows_of(tmp_path / "rows", said, size)
    command = ("run", "llava_ov", "--output-root", str(tmp_path / "runs"), *SMALL, "model.image_min_pixels=1024")
    named = (f"model.backbone.model_name={place / 'tiny'}", f"dataloader_train.dataset.path={data}")
    short = ("dataloader_train.max_sequence_length=200", "dataloader_train.overlong=error")
    refusal = cosmos(*command, *named, *short, code=2).stderr
    assert "can never fit under 200" in refusal
    assert "sample row" in refusal
    assert "Traceback" not in refusal
    cosmos(*command, *named, "dataloader_train.max_sequence_length=1000")


def test_a_local_copy_of_several_subsets_without_the_one_that_is_meant(place: Path, tmp_path: Path) -> None:
    for name in ("ai2d(cauldron)", "ureader_kg(cauldron)"):
        rows_of(tmp_path / "mirror" / name, dialog("What?", "Red"), (64, 64))
    command = ("run", "llava_ov", "--output-root", str(tmp_path / "runs"), *SMALL)
    named = (f"model.backbone.model_name={place / 'tiny'}", f"dataloader_train.dataset.path={tmp_path / 'mirror'}")
    said = cosmos(*command, *named, code=2).stderr
    assert "none named 'ai2d(gpt4v)'" in said
    assert "dataloader_train.dataset.subset" in said
    assert "one of ai2d(cauldron), ureader_kg(cauldron)" in said
    cosmos(*command, *named, "dataloader_train.dataset.subset=ai2d(cauldron)")


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
        *("run", "llava_ov_packed", "--output-root", str(tmp_path / "runs"), *SMALL),
        *(f"model.backbone.model_name={place / 'tiny'}", f"dataloader_train.dataset.path={tmp_path / 'pictures'}"),
        *("dataloader_train.max_bad_sample_fraction=0.5", "dataloader_train.max_sequence_length=120"),
        "model.compile.enabled=false",
    )
    assert re.search(r"skipped row2 \(.*, row 2 of row group 0\): .*: image cannot be read", done.stderr)


def test_an_attention_that_is_not_installed_and_one_that_would_not_repeat(place: Path, tmp_path: Path) -> None:
    said = refused(place, tmp_path, "model.attn_implementation=flash_attention_2", "trainer.deterministic=true")
    assert "flash_attn" in said
    assert "pip install flash-attn" in said
    assert "model.attn_implementation: the backward pass of 'flash_attention_2' does not repeat to the last bit" in said
