"""`model.num_layers`: a whole base starts a network of its first layers, which saves, resumes and exports as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Cosmos3OmniTransformer
from safetensors.torch import load_file

from cosmos_core.checkpoint import stored_keys
from cosmos_core.plan.source import find_source
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load_recorded
from cosmos_core.train.load_for_eval import load_source
from cosmos_vfm.checkpoints.diffusers_config import to_diffusers_config
from cosmos_vfm.sizes import MODEL_SIZES
from tests.command import cosmos

LAYERS = 2
SHORT = (
    "trainer.run_validation=false",
    "trainer.max_iter=2",
    "checkpoint.save_iter=2",
    "scheduler.cycle_lengths=[2]",
    "scheduler.warm_up_steps=[1]",
    "dataloader_train.max_samples_per_batch=2",
    "trainer.callbacks.every_n_draw_sample.steps=1",
    "trainer.callbacks.every_n_draw_sample.count=1",
    "model.init=pretrained",
    'checkpoint.keys_to_skip_loading=["net_ema."]',
)
LORA = (
    "model.lora_enabled=true",
    'optimizer.keys_to_select=["lora_"]',
    "optimizer.lr=1e-2",
    "model.ema.enabled=false",
    'checkpoint.keys_to_skip_loading=["net_ema.", "lora_"]',
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a whole base."""
    root = tmp_path_factory.mktemp("cut")
    cosmos("data", "prepare", "bridge", "--synthetic", "4", "--val", "1", "-o", str(root / "data"))
    torch.manual_seed(0)
    config = {key: value for key, value in to_diffusers_config(MODEL_SIZES["tiny"]).items() if key[0] != "_"}
    Cosmos3OmniTransformer(**config).save_pretrained(root / "published/transformer")
    cosmos("convert", str(root / "published"), "-o", str(root / "base"))
    return root


def train(root: Path, name: str, *more: str, layers: int = LAYERS, code: int = 0) -> str:
    command = ("run", "vision_sft_demo", "--output-root", str(root), f"job.name={name}", *SHORT, *more)
    source = (f"checkpoint.load_path={root / 'base'}", f"model.num_layers={layers}")
    return cosmos(*command, *source, env={"DATASET_PATH": str(root / "data")}, code=code).stderr


def exported(root: Path, name: str, output: Path) -> dict[str, torch.Tensor]:
    cosmos("export", str(root / "cosmos3/sft" / name), "-o", str(output), "--verify")
    network, report = Cosmos3OmniTransformer.from_pretrained(output / "transformer", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert network.config.num_hidden_layers == LAYERS
    return load_file(output / "transformer/diffusion_pytorch_model.safetensors")


def started_from(run_dir: Path) -> Any:
    """The network with the weights that a run started from, as `cosmos eval --weights fresh` evaluates it."""
    plugins = PluginManager.discover()
    source = find_source(run_dir, plugins)
    assert source.record is not None
    config = load_recorded(source.record, plugins=plugins)
    return load_source(source, config, plugins=plugins, weights="fresh")[1]


def test_a_cut_network_starts_from_a_whole_base_and_exports_under_its_own_depth(root: Path, tmp_path: Path) -> None:
    told = train(root, "full")
    assert "left unused in the checkpoint: net.language_model.model.layers.*" in told
    keys = stored_keys(root / "cosmos3/sft/full/checkpoints/iter_000000002/model")
    assert {key.split(".")[4] for key in keys if ".layers." in key} == {"0", "1"}
    base = load_file(root / "published/transformer/diffusion_pytorch_model.safetensors")
    name = "layers.1.self_attn.to_q.weight"
    torch.testing.assert_close(exported(root, "full", tmp_path / "out")[name], base[name], atol=1e-2, rtol=0)
    assert len(started_from(root / "cosmos3/sft/full").language_model.model.layers) == LAYERS
    refused = train(root, "full", "trainer.max_iter=4", layers=3, code=2)
    assert "model.num_layers: is 3, iter_000000002 (launch 1) was trained with 2;" in refused


def test_adapters_of_a_cut_network_resume_and_are_merged_into_the_layers_they_saw(root: Path, tmp_path: Path) -> None:
    train(root, "lora", *LORA)
    assert "resume from" in train(root, "lora", *LORA, "trainer.max_iter=3")
    assert "layers.1.self_attn.add_q_proj.weight" in exported(root, "lora", tmp_path / "out")
    run_dir = str(root / "cosmos3/sft/lora")
    refused = cosmos("export", run_dir, "-o", str(tmp_path / "adapter"), "--adapter", code=2).stderr
    assert "model.num_layers: is 2, and adapters alone are loaded onto the whole base" in refused


@pytest.mark.parametrize(("layers", "words"), [(5, "is 5, but model size 'tiny' has 4 layers"), (0, "at least 1")])
def test_a_depth_that_the_size_lacks_is_refused(root: Path, layers: int, words: str) -> None:
    refused = train(root, "deep", layers=layers, code=2)
    assert "model.num_layers" in refused
    assert words in refused
    assert not (root / "cosmos3/sft/deep").exists()
