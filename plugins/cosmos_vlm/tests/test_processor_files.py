"""Sizes come from the backbone's own files, exports say what trained, and a folder with all files is enough offline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig

from cosmos_core.errors import UserError
from cosmos_vlm.catalog import PINNED
from cosmos_vlm.config import Backbone, VlmConfig
from cosmos_vlm.processor_files import PixelLimits, pixel_limits, write_processor
from cosmos_vlm.weights import config_folder, snapshot
from tests.command import cosmos
from tests.physics import write_physics
from tests.tiny_reasoner import family_of, write_reasoner

QWEN = "Qwen/Qwen3-VL-8B-Instruct"
IMAGE, VIDEO = "preprocessor_config.json", "video_preprocessor_config.json"
UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
SHORT = (
    "trainer.max_iter=1",
    "trainer.run_validation=false",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[0]",
    "dataloader_train.max_samples_per_batch=2",
)


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        ({"size": {"shortest_edge": 2048, "longest_edge": 4096}}, (2048, 4096)),
        ({"min_pixels": 2048, "max_pixels": 4096, "size": {"shortest_edge": 1}}, (2048, 4096)),
        ({"size": {"min_pixels": 2048, "max_pixels": 4096}}, (2048, 4096)),
        ({"patch_size": 16}, (65_536, 16_777_216)),
        ({"size": {"height": 224, "width": 224}}, (65_536, 16_777_216)),
    ],
)
def test_sizes_are_read_in_every_spelling_of_the_backbones_file(
    tmp_path: Path, settings: dict[str, object], limits: tuple[int, int]
) -> None:
    (tmp_path / IMAGE).write_text(json.dumps(settings))
    assert pixel_limits(VlmConfig(), tmp_path) == PixelLimits(image=limits)
    nested = {"image_processor": settings, "video_processor": {"size": {"longest_edge": 9999}}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    (tmp_path / IMAGE).write_text("{}")
    assert pixel_limits(VlmConfig(), tmp_path) == PixelLimits(image=limits, video=(4096, 9999))


def test_a_recipes_sizes_win_one_by_one(tmp_path: Path) -> None:
    (tmp_path / VIDEO).write_text(json.dumps({"size": {"shortest_edge": 2048, "longest_edge": 8192}}))
    chosen = VlmConfig(video_max_pixels=4096, image_min_pixels=1024)
    assert pixel_limits(chosen, tmp_path) == PixelLimits(image=(1024, 16_777_216), video=(2048, 4096))


@pytest.mark.parametrize(
    ("chosen", "limits"),
    [
        ({"image_max_pixels": 50_000}, (50_000, 50_000)),
        ({"image_min_pixels": 20_000_000}, (20_000_000, 20_000_000)),
        ({"image_max_pixels": 70_000}, (65_536, 70_000)),
        ({"image_min_pixels": 50_000}, (50_000, 16_777_216)),
    ],
)
def test_a_backbones_limit_moves_where_it_would_cross_a_recipes(
    tmp_path: Path, chosen: dict[str, Any], limits: tuple[int, int]
) -> None:
    """And what an export says of them can be read again."""
    assert pixel_limits(VlmConfig(**chosen), tmp_path) == PixelLimits(image=limits)
    write_processor(tmp_path, PixelLimits(image=limits))
    assert pixel_limits(VlmConfig(), tmp_path) == PixelLimits(image=limits)


def test_a_family_prepares_pictures_as_its_backbones_file_says(tmp_path: Path) -> None:
    folder = write_reasoner(tmp_path / "tiny")
    (folder / IMAGE).write_text(json.dumps({"size": {"shortest_edge": 4096, "longest_edge": 9216}}))
    limits = family_of(folder, image_min_pixels=None).processor.limits
    assert limits.image == (4096, 9216)


def test_a_damaged_processor_file_is_named(tmp_path: Path) -> None:
    (tmp_path / IMAGE).write_text("{")
    with pytest.raises(UserError) as refused:
        pixel_limits(VlmConfig(), tmp_path)
    assert refused.value.problems[0].file == str(tmp_path / IMAGE)


def test_written_sizes_are_read_back_and_old_spellings_do_not_win(tmp_path: Path) -> None:
    kind = {"image_processor_type": "Qwen2VLImageProcessorFast"}
    old = {**kind, "min_pixels": 1, "max_pixels": 2, "image_mean": [0.1, 0.2, 0.3]}
    (tmp_path / IMAGE).write_text(json.dumps(old))
    (tmp_path / "processor_config.json").write_text(json.dumps({"video_processor": {"fps": 4, "max_pixels": 5}}))
    limits = PixelLimits(image=(1024, 2048), video=(4096, 8192))
    write_processor(tmp_path, limits)
    assert pixel_limits(VlmConfig(), tmp_path) == limits
    assert json.loads((tmp_path / IMAGE).read_text())["image_mean"] == [0.1, 0.2, 0.3]
    assert json.loads((tmp_path / "processor_config.json").read_text())["video_processor"]["fps"] == 4
    assert AutoImageProcessor.from_pretrained(tmp_path).size["longest_edge"] == 2048


def test_the_demos_export_has_a_whole_processor_that_says_what_trained(tmp_path: Path) -> None:
    """transformers' video processor needs torchvision, which is not installed; its file is compared instead."""
    write_physics(tmp_path / "physics", train=2, val=1)
    run = ("run", "videophy2_demo", "--output-root", str(tmp_path), *SHORT, "model.image_min_pixels=1024")
    cosmos(*run, env={"VIDEOPHYSICS_ROOT": str(tmp_path / "physics")})
    out = tmp_path / "out"
    cosmos("export", str(tmp_path / "cosmos3/sft/videophy2_demo"), "-o", str(out))
    size = AutoImageProcessor.from_pretrained(out).size
    assert (size["shortest_edge"], size["longest_edge"]) == (1024, 16_777_216)
    video = json.loads((out / VIDEO).read_text())
    assert video["size"] == {"shortest_edge": 4096, "longest_edge": 25_165_824}
    assert (video["video_processor_type"], video["processor_class"]) == ("Qwen3VLVideoProcessor", "Qwen3VLProcessor")
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert GenerationConfig.from_pretrained(out).eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    question = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Rate it."}]}
    text = tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
    pad = "<|vision_start|><|video_pad|><|vision_end|>"
    assert text == f"<|im_start|>user\n{pad}Rate it.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """A folder as `cosmos convert --to vlm` writes it."""
    return write_reasoner(tmp_path / "merged")


def test_a_merged_folder_with_all_files_is_enough(merged: Path, tmp_path: Path) -> None:
    backbone = Backbone(model_name=QWEN, safetensors_path=str(merged))
    assert config_folder(backbone) == merged
    write_physics(tmp_path / "physics", train=2, val=1)
    run = ("run", "videophy2_sft_nano", "--output-root", str(tmp_path), *SHORT, "trainer.grad_accum_iter=1")
    small = ("dataloader_train.num_workers=0", "model.precision=float32", "dataloader_train.max_sequence_length=null")
    places = {"VIDEOPHYSICS_ROOT": str(tmp_path / "physics"), "VLM_SAFETENSORS_PATH": str(merged)}
    environment = {**places, **UNREACHABLE, "HF_HOME": str(tmp_path / "empty")}
    cosmos(*run, *small, env=environment)
    run_dir = tmp_path / "cosmos3/vlm_videophy2_sft/videophy2_sft_nano"
    assert "model.backbone.model_name" not in (run_dir / "launch_info.yaml").read_text()
    cosmos("export", str(run_dir), "-o", str(tmp_path / "out"), env=environment)
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (merged / "tokenizer.json").read_bytes()


def test_a_folder_that_lacks_a_file_says_which_and_how_to_fetch_it(
    merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (merged / "tokenizer.json").unlink()
    monkeypatch.setattr("cosmos_vlm.weights.snapshot", unreachable)
    with pytest.raises(UserError) as refused:
        config_folder(Backbone(model_name=QWEN, safetensors_path=str(merged)))
    problem = refused.value.problems[0]
    assert problem.message == f"{merged} has no tokenizer.json"
    fetch = f"hf download {QWEN} tokenizer.json --revision {PINNED[QWEN]} --local-dir {merged}"
    assert fetch in problem.hint


def unreachable(name: str, patterns: list[str]) -> Path:
    raise UserError(f"'{name}' cannot be fetched")


def test_a_backbone_on_this_machine_keeps_its_own_files_beside_other_weights(merged: Path, tmp_path: Path) -> None:
    shutil.copytree(merged, tmp_path / "own")
    for name, folder in ((str(tmp_path / "own"), tmp_path / "own"), ("tiny", snapshot("tiny", []))):
        assert config_folder(Backbone(model_name=name, safetensors_path=str(merged))) == folder
