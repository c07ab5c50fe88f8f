"""`model.num_layers` of the reasoner: fewer layers of the language model under the whole vision tower."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from cosmos_vlm.architecture import architecture_of
from tests.command import cosmos
from tests.physics import write_physics
from tests.tiny_reasoner import write_reasoner

SMALL = (
    "model.precision=float32",
    "model.backbone.safetensors_path=null",
    "model.parallelism.data_parallel_shard_degree=-1",
    "model.parallelism.data_parallel_replicate_degree=1",
    "model.video_min_pixels=1024",
    "trainer.max_iter=2",
    "trainer.grad_accum_iter=1",
    "trainer.run_validation=false",
    "checkpoint.save_iter=2",
    "scheduler.cycle_lengths=[2]",
    "scheduler.warm_up_steps=[1]",
    "dataloader_train.max_sequence_length=null",
    "dataloader_train.max_samples_per_batch=2",
    "dataloader_train.num_workers=0",
)
LORA = ("model.lora_enabled=true", 'optimizer.keys_to_select=["lora_"]', "optimizer.lr=1e-2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cut")
    write_reasoner(root / "whole")
    write_physics(root / "videophysics", train=8, val=2)
    return root


def train(root: Path, name: str, layers: int, *more: str, code: int = 0) -> str:
    command = ("run", "videophy2_sft_nano", f"job.name={name}", "--output-root", str(root), *SMALL, *more)
    size = (f"model.backbone.model_name={root / 'whole'}", f"model.num_layers={layers}")
    return cosmos(*command, *size, env={"VIDEOPHYSICS_ROOT": str(root / "videophysics")}, code=code).stderr


def exported(root: Path, name: str, output: Path, layers: int) -> dict[str, torch.Tensor]:
    cosmos("export", str(root / "cosmos3/vlm_videophy2_sft" / name), "-o", str(output), "--verify")
    assert json.loads((output / "config.json").read_text())["text_config"]["num_hidden_layers"] == layers
    model, report = Qwen3VLForConditionalGeneration.from_pretrained(output, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert architecture_of(output).text_config.num_hidden_layers == layers
    return dict(model.named_parameters())


@pytest.mark.parametrize("layers", [2, 1])
def test_a_cut_reasoner_starts_from_a_whole_backbone_and_exports_under_its_own_depth(
    root: Path, tmp_path: Path, layers: int
) -> None:
    """One layer is fewer than the depths at which the vision tower joins (two)."""
    told = train(root, f"full{layers}", layers)
    assert "unused tensors in" in told
    assert "model.language_model.layers.*" in told
    weights = exported(root, f"full{layers}", tmp_path / "out", layers)
    assert "model.visual.blocks.2.attn.qkv.weight" in weights
    assert f"model.language_model.layers.{layers}.mlp.up_proj.weight" not in weights
    whole = dict(Qwen3VLForConditionalGeneration.from_pretrained(root / "whole").named_parameters())
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(weights[name], whole[name], atol=1e-2, rtol=0)


def test_adapters_of_a_cut_reasoner_are_merged_into_the_layers_they_saw(root: Path, tmp_path: Path) -> None:
    train(root, "lora", 2, *LORA)
    exported(root, "lora", tmp_path / "out", 2)
    run_dir = str(root / "cosmos3/vlm_videophy2_sft/lora")
    refused = cosmos("export", run_dir, "-o", str(tmp_path / "adapter"), "--adapter", code=2).stderr
    assert "model.num_layers: is 2, and adapters alone are loaded onto the whole base" in refused


def test_a_depth_that_the_backbone_lacks_is_refused(root: Path) -> None:
    refused = train(root, "deep", 4, code=2)
    assert "model.num_layers: is 4, but the backbone's language model has 3 layers" in refused
