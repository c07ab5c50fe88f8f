"""Every generator recipe at a tiny size, from a published base to frames from the exported folder."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Cosmos3OmniPipeline

from cosmos_core.optim import select_trainable
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import find_recipe, resolve
from cosmos_core.train import BuildContext
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.sizes import MODEL_SIZES
from tests.command import cosmos, losses
from tests.tiny_generator import write_generator

RECIPES = ("vision_sft_nano", "vision_sft_edge", "vision_sft_super")
TINY = {"vision_sft_nano": "tiny", "vision_sft_edge": "tiny_edge", "vision_sft_super": "tiny"}
RANKS: dict[str, tuple[str, ...]] = {
    "vision_sft_nano": ("--nproc", "2"),
    "vision_sft_edge": (),
    "vision_sft_super": ("--nproc", "3", "model.parallelism.context_parallel_shard_degree=3"),
}
SMALL = (
    "model.compile.enabled=false",
    "model.sampling.steps=2",
    "trainer.callbacks.norm_monitor.every_n=2",
    "trainer.callbacks.iter_speed.skip=0",
    "trainer.callbacks.every_n_draw_sample.count=1",
    "scheduler.warm_up_steps=[1]",
    "checkpoint.save_iter=2",
    "dataloader_train.num_workers=1",
    "dataloader_train.max_sequence_length=500",
    'dataloader_train.dataset.resolution="64"',
    "dataloader_train.dataset.min_window_frames=17",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twins") / "data"
    cosmos("data", "prepare", "bridge", "--synthetic", "24", "--val", "2", "-o", str(root))
    return root


@pytest.mark.ranks
@pytest.mark.parametrize("recipe", RECIPES)
def test_from_a_published_base_to_frames(recipe: str, data: Path, tmp_path: Path) -> None:
    published = write_generator(tmp_path / "published", MODEL_SIZES[TINY[recipe]])
    cosmos("convert", str(published), "-o", str(tmp_path / "base"))
    environment = {
        "DATASET_PATH": str(data),
        "BASE_CHECKPOINT_PATH": str(tmp_path / "base"),
        "WAN_VAE_PATH": str(published / "vae"),
    }
    tokenizer = f"model.text_tokenizer.path={published / 'text_tokenizer'}"

    def train(steps: int) -> str:
        size = (f"model.tier={TINY[recipe]}", tokenizer, f"trainer.max_iter={steps}", *SMALL, *RANKS[recipe])
        return cosmos("run", recipe, "--output-root", str(tmp_path), *size, env=environment).stderr

    if recipe == "vision_sft_edge":  # One rank resumes in test_generator_runs.py.
        assert "warm from" in train(4)
    else:
        assert "warm from" in train(2)
        assert "resume from" in train(4)
    run_dir = tmp_path / "cosmos3/sft" / recipe
    assert sorted(losses(run_dir)) == [1, 2, 3, 4]
    assert all(loss > 0 and norm > 0 for loss, norm in losses(run_dir).values())
    for folder in ("norm_monitor", "DeviceMonitor", "iter_speed", "EveryNDrawSample"):
        assert any((run_dir / folder).iterdir()), folder
    printed = cosmos("export", str(run_dir), "-o", str(tmp_path / "out"), "--verify").stdout
    assert "components: scheduler, vae, text_tokenizer" in printed
    frames = [generated(folder) for folder in (published, tmp_path / "out")]
    assert frames[0].shape == frames[1].shape == (5, 64, 64, 3)
    assert not (frames[0] == frames[1]).all()


def generated(folder: Path) -> Any:
    """Five frames of diffusers' pipeline."""
    pipeline = Cosmos3OmniPipeline.from_pretrained(folder, enable_safety_checker=False, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_frames": 5, "height": 64, "width": 64, "num_inference_steps": 2, "enable_safety_check": False}
    return pipeline("red", output_type="np", generator=torch.Generator().manual_seed(0), **options).video


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_sensible(recipe: str) -> None:
    """Warm-up ends inside the run, saves and previews fire, something trains and not everything does."""
    config = resolve(recipe, ["model.text_tokenizer.type=words"], plugins=PluginManager.discover()).config
    assert sum(config.scheduler.warm_up_steps) < config.trainer.max_iter / 2
    assert config.checkpoint.save_iter <= config.trainer.max_iter
    draw = config.trainer.callbacks["every_n_draw_sample"]
    assert 0 < draw.every_n < config.trainer.max_iter
    assert draw.count >= 1
    assert 0 < config.trainer.callbacks["norm_monitor"].every_n < config.trainer.max_iter
    family = VfmFamily(config.model, BuildContext(torch.device("cpu"), config.dataloader_train))
    with torch.device("meta"):
        model = family.build()
    select_trainable(model, config.optimizer.keys_to_select)
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    expected = {"vision_sft_nano": 6_965_486_784, "vision_sft_edge": 1_414_924_992, "vision_sft_super": 39_845_888}
    assert trained == expected[recipe]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_complete_in_its_own_file(recipe: str) -> None:
    """Its values are compared in tests/contract/test_published_recipes.py."""
    assert "extends" not in tomllib.loads(find_recipe(recipe).read_text())


def test_the_native_schedule_is_what_an_export_without_one_gets(tmp_path: Path) -> None:
    published = write_generator(tmp_path / "published", MODEL_SIZES["tiny"])
    for path in (published / "scheduler").iterdir():
        path.unlink()
    (published / "scheduler").rmdir()
    cosmos("convert", str(published), "-o", str(tmp_path / "base"))
    cosmos("export", str(tmp_path / "base"), "-o", str(tmp_path / "out"), "--task", "vfm")
    config = json.loads((tmp_path / "out/scheduler/scheduler_config.json").read_text())
    assert config["use_flow_sigmas"] is True
    assert config["prediction_type"] == "flow_prediction"
