"""Reasoners merged from a generator, trained with adapters, exported: transformers and peft load what we wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from cosmos_core.checkpoint import stored_keys
from cosmos_core.plugin import PluginManager
from cosmos_core.train.restore import restore
from cosmos_vfm.tiers import NetworkConfig
from tests.command import cosmos, losses
from tests.physics import write_physics
from tests.tiny_generator import write_generator
from tests.tiny_reasoner import write_reasoner

MATCHING = NetworkConfig(hidden=32, layers=3, heads=4, kv_heads=2, head_dim=16, mlp=48, vocab=264)
"""A generator whose understanding tower has the tiny reasoner's sizes."""
SMALL = (
    "model.precision=float32",
    "model.backbone.safetensors_path=null",
    "model.parallelism.data_parallel_shard_degree=-1",
    "model.parallelism.data_parallel_replicate_degree=1",
    "model.activation_checkpointing.mode=none",
    "model.video_min_pixels=1024",
    "optimizer.lr=1e-2",
    "trainer.max_iter=4",
    "trainer.grad_accum_iter=1",
    "trainer.run_validation=false",
    "checkpoint.save_iter=2",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[1]",
    "dataloader_train.max_sequence_length=null",
    "dataloader_train.max_samples_per_batch=4",
    "dataloader_train.num_workers=0",
)
LORA = ("model.lora_enabled=true", 'optimizer.keys_to_select=["lora_"]', "model.lora_rank=4", "model.lora_alpha=8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reasoner")
    write_reasoner(root / "tiny")
    write_generator(root / "published", MATCHING)
    write_physics(root / "videophysics", train=16, val=4)
    train(root, "full")
    train(root, "lora", *LORA)
    return root


def train(place: Path, name: str, *more: str) -> str:
    backbone = f"model.backbone.model_name={place / 'tiny'}"
    arguments = ("run", "videophy2_sft_nano", f"job.name={name}", "--output-root", str(place), *SMALL, backbone, *more)
    return cosmos(*arguments, env={"VIDEOPHYSICS_ROOT": str(place / "videophysics")}).stderr


def run_dir(place: Path, name: str) -> Path:
    return place / "cosmos3/vlm_videophy2_sft" / name


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(5, 25)[None]).logits


def loaded(folder: Path) -> Qwen3VLForConditionalGeneration:
    model, report = Qwen3VLForConditionalGeneration.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return model


def test_a_trained_reasoner_exports_to_the_same_weights_and_generates(place: Path, tmp_path: Path) -> None:
    cosmos("export", str(run_dir(place, "full")), "-o", str(tmp_path / "out"), "--verify")
    model = loaded(tmp_path / "out")
    _, ours = restore(run_dir(place, "full"), plugins=PluginManager.discover())
    theirs = dict(model.named_parameters())
    assert all(torch.equal(theirs[name], value) for name, value in ours.named_parameters())
    before = dict(loaded(place / "tiny").named_parameters())
    assert any(not torch.equal(before[name], value) for name, value in theirs.items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = tokenizer("Rate it.", return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt["input_ids"].shape[1]


def test_an_adapter_run_saves_adapters_and_resumes_on_them(place: Path) -> None:
    checkpoint = run_dir(place, "lora") / "checkpoints/iter_000000004"
    keys = stored_keys(checkpoint / "model")
    assert len(keys) == 3 * 4 * 2
    assert all(key.startswith("net.model.language_model.") and ".lora_" in key for key in keys)
    assert json.loads((checkpoint / "adapter_base.json").read_text())["dcp"] is False
    train(place, "parts", *LORA, "trainer.max_iter=2")
    assert "resume from" in train(place, "parts", *LORA)
    assert losses(run_dir(place, "parts")) == losses(run_dir(place, "lora"))


def test_merged_adapters_give_what_peft_gives(place: Path, tmp_path: Path) -> None:
    cosmos("export", str(run_dir(place, "lora")), "-o", str(tmp_path / "merged"))
    cosmos("export", str(run_dir(place, "lora")), "-o", str(tmp_path / "adapter"), "--adapter")
    plain = logits(loaded(place / "tiny"))
    adapted = logits(PeftModel.from_pretrained(loaded(place / "tiny"), str(tmp_path / "adapter")))
    merged = logits(loaded(tmp_path / "merged"))
    assert not torch.allclose(plain, adapted, rtol=1e-3)
    torch.testing.assert_close(adapted, merged, rtol=1e-5, atol=1e-5)


def test_adapters_on_the_tower_train_too(place: Path) -> None:
    both = 'model.lora_target_modules="q_proj,v_proj,qkv"'
    train(place, "tower", *LORA, both, "model.freeze.freeze_vision_encoder=false", "trainer.max_iter=2")
    keys = stored_keys(run_dir(place, "tower") / "checkpoints/iter_000000002/model")
    assert sum(".visual." in key for key in keys) == 3 * 2
    assert sum(".language_model." in key for key in keys) == 3 * 2 * 2


def test_adapters_on_a_changed_backbone_are_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir(place, "lora"), tmp_path / "run")
    record = tmp_path / "run/checkpoints/iter_000000004/adapter_base.json"
    write_reasoner(tmp_path / "other", seed=1)
    record.write_text(json.dumps({**json.loads(record.read_text()), "folder": str(tmp_path / "other")}))
    said = cosmos("export", str(tmp_path / "run"), "-o", str(tmp_path / "out"), code=2).stderr
    assert "other weights than the adapters were trained on" in said


def merge(place: Path, source: Path, output: Path, *more: str, code: int = 0) -> str:
    arguments = ("convert", str(source), "-o", str(output), "--to", "vlm", "--backbone", str(place / "tiny"), *more)
    done = cosmos(*arguments, code=code)
    return done.stdout + done.stderr


def test_a_generators_reasoner_on_qwens_tower(place: Path, tmp_path: Path) -> None:
    printed = merge(place, place / "published", tmp_path / "merged")
    assert "language: 36 tensors" in printed
    names = dict(loaded(tmp_path / "merged").named_parameters())
    generator = load_file(place / "published/transformer/diffusion_pytorch_model.safetensors")
    backbone = load_file(place / "tiny/model.safetensors")
    rounded = {name: value.bfloat16().float() for name, value in generator.items()}
    assert torch.equal(
        names["model.language_model.layers.1.self_attn.o_proj.weight"], rounded["layers.1.self_attn.to_out.weight"]
    )
    assert torch.equal(
        names["model.language_model.layers.2.mlp.up_proj.weight"], rounded["layers.2.mlp.up_proj.weight"]
    )
    assert torch.equal(names["lm_head.weight"], rounded["lm_head.weight"])
    visual = [name for name in names if ".visual." in name]
    assert visual
    assert all(torch.equal(names[name], backbone[name].bfloat16().float()) for name in visual)
    report = json.loads((tmp_path / "merged/merge_report.json").read_text())
    assert report.keys() == names.keys()
    train(
        place,
        "merged",
        f"model.backbone.safetensors_path={tmp_path / 'merged'}",
        "trainer.max_iter=1",
        "checkpoint.save_iter=1",
    )


def test_the_checkpoints_own_tower_wins_unless_qwens_is_asked_for(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "published", tmp_path / "source")
    (tmp_path / "source/vision_encoder").mkdir()
    tower = {
        name.removeprefix("model.visual."): value + 1
        for name, value in load_file(place / "tiny/model.safetensors").items()
        if ".visual." in name
    }
    save_file(tower, tmp_path / "source/vision_encoder/model.safetensors")
    assert "vision_encoder" in merge(place, tmp_path / "source", tmp_path / "own")
    merge(place, tmp_path / "source", tmp_path / "qwen", "--vision", "qwen")
    own, qwen = (dict(loaded(tmp_path / name).named_parameters()) for name in ("own", "qwen"))
    name = "model.visual.blocks.0.attn.qkv.weight"
    torch.testing.assert_close(own[name], qwen[name] + 1, rtol=1e-2, atol=1e-2)
    assert "no vision tower of its own" in merge(
        place, place / "published", tmp_path / "none", "--vision", "cosmos", code=2
    )


def test_a_generator_of_another_size_is_refused_by_name(place: Path, tmp_path: Path) -> None:
    other = NetworkConfig(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, mlp=48, vocab=264)
    write_generator(tmp_path / "other", other)
    said = merge(place, tmp_path / "other", tmp_path / "out", code=2)
    assert "tensors are missing" in said
    assert "have another shape" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
