"""What a plan warns of: rates of zero, a schedule that ends before the run, nothing to see before the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosmos_core.plan import warnings
from cosmos_core.plan.make import make_plan
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.find import list_recipes
from cosmos_core.recipes.loading import load
from cosmos_core.recipes.peek import peek
from tests.command import cosmos

PLUGINS = PluginManager.discover()
QUIET = ("trainer.logging_iter=1", "trainer.validation_iter=1", "checkpoint.save_iter=1")
OWN = ("scheduler.cycle_lengths=[4]", "scheduler.warm_up_steps=[1]", "trainer.max_iter=4", *QUIET)


def warned(root: Path, *overrides: str, recipe: str = "hello") -> list[str]:
    config = load(recipe, (*OWN, *overrides), plugins=PLUGINS)
    plan = make_plan(config, output_root=root, world=1, distributions={})
    return warnings(plan.config, plan.weights)


def test_a_schedule_as_long_as_the_run_is_no_matter(tmp_path: Path) -> None:
    assert warned(tmp_path) == []
    assert warned(tmp_path, "model.precision=float16", "model.parallelism.fsdp_reduce_dtype=bfloat16") == []


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ("model.activation_checkpointing.parts=20", "dataloader_train.max_samples_per_batch=16"),
            ("activation_checkpointing.parts is 20", "at most 16 samples", "4 of them only repeat"),
        ),
        (("trainer.max_iter=8",), ("ends at step 4", "steps 5 to 8", "rate of zero")),
        (("trainer.max_iter=8", "scheduler.f_min=[0.5]"), ("steps 5 to 8", "keep its last rate, 0.005")),
        (("trainer.max_iter=5", "scheduler.type=LambdaLinear"), ("steps 5 to 5", "rate of zero")),
        (("optimizer.lr=0.0",), ("steps 1 to 4", "rate of zero", "optimizer.lr is 0")),
        (("scheduler.f_max=[0.0]",), ("steps 1 to 4", "rate of zero", "[scheduler]")),
        (("trainer.max_iter=1",), ("step 1 has a rate of zero", "its warm-up of 1 (scheduler.warm_up_steps) begins")),
        (("trainer.max_iter=1", "scheduler.f_max=[0.0]"), ("step 1 has a rate of zero", "f_max is 0")),
        (("trainer.callbacks.profile.start=5",), ("run of 4 steps: trainer.callbacks.profile.start=5",)),
        (("scheduler.f_max=[0.0]", "scheduler.f_min=[0.0]"), ("steps 1 to 4", "f_max is 0 there")),
        (
            ('optimizer.keys_to_select=["embed.weight"]', "optimizer.lr_multipliers.embed=0.0"),
            ("steps 1 to 4", "lr_multipliers is 0"),
        ),
        (
            (
                "scheduler.cycle_lengths=[4, 3]",
                "scheduler.warm_up_steps=[1, 0]",
                *(f"scheduler.{name}=[{value}, 0.0]" for name, value in (("f_start", 0.0), ("f_max", 1.0))),
                "scheduler.f_min=[0.5, 0.0]",
                "trainer.max_iter=7",
            ),
            ("steps 5 to 7", "f_max and f_min"),
        ),
        (
            ("scheduler.cycle_lengths=[60]", "scheduler.warm_up_steps=[50]"),
            ("ends within its warm-up of 50", "0.0006 instead of 0.01"),
        ),
        (("checkpoint.save_iter=5",), ("longer than the run of 4 steps", "checkpoint.save_iter=5")),
        (("trainer.logging_iter=9",), ("trainer.logging_iter=9",)),
        (("trainer.validation_iter=9",), ("trainer.validation_iter=9",)),
        (("trainer.callbacks.norm_monitor.every_n=9",), ("trainer.callbacks.norm_monitor.every_n=9",)),
        (
            ("model.compile.compile_dynamic=false",),
            ("model.compile.compile_dynamic has no effect: model.compile.enabled is false",),
        ),
        (
            ("model.activation_checkpointing.save_ops_regex=['mm']",),
            ('save_ops_regex has no effect: model.activation_checkpointing.mode is "full"',),
        ),
        (("model.parallelism.fsdp_master_dtype=float16",), ("stored in float16", "diverges", 'dtype = "float32"')),
        (("model.parallelism.fsdp_master_dtype=bfloat16",), ("stored in bfloat16", "learns less", "float32")),
        (("trainer.max_rollbacks=5",), ('trainer.max_rollbacks has no effect: trainer.on_nonfinite is "skip"',)),
        (("checkpoint.keep_every=2",), ("checkpoint.keep_every has no effect: checkpoint.keep_last is not set",)),
        (("checkpoint.keep_best.count=1",), ("checkpoint.keep_best has no effect: all checkpoints stay",)),
        (
            ("checkpoint.keep_best.count=1", "checkpoint.keep_last=1", "trainer.run_validation=false"),
            ("checkpoint.keep_best has no effect: trainer.run_validation is false",),
        ),
        (("dataloader_train.cache=auto",), ("dataloader_train.cache has no effect", "encodes no videos")),
        (("trackers.wandb.enabled=true",), ("trackers.wandb has no effect", "job.wandb_mode")),
        (("model.ema.enabled=false", "model.ema.rate=0.2"), ("model.ema.rate has no effect",)),
        (("dataloader_val.pool.size=3",), ('dataloader_val.pool has no effect: dataloader_val.packing is "fill"',)),
        (
            ("trainer.callbacks.loss_curve.enabled=false", "trainer.callbacks.loss_curve.every_n=2"),
            ("trainer.callbacks.loss_curve.every_n has no effect",),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_it_is_said_which_steps_and_why(overrides: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    (said,) = warned(tmp_path, *overrides)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "override",
    [
        ("optimizer.lr_multipliers.embed=0.0",),
        ('optimizer.keys_to_select=["embed", "head"]', "optimizer.lr_multipliers.embed=0.0"),
        ('optimizer.keys_to_select=["embed"]', "optimizer.lr_multipliers={embed=0.0, weight=0.5}"),
        ("trainer.run_validation=false", "trainer.validation_iter=9"),
        ("checkpoint.save_iter=4", "trainer.logging_iter=4"),
        ("model.compile.compile_dynamic=false", "model.compile.enabled=true"),
        ("trackers.wandb.enabled=true", "job.wandb_mode=offline"),
        ("trackers.wandb.enabled=false",),
        ("model.ema.enabled=false", "model.ema.rate=0.1"),
    ],
    ids=lambda value: value[-1],
)
def test_what_may_be_meant_is_not_warned_of(override: tuple[str, ...], tmp_path: Path) -> None:
    assert warned(tmp_path, *override) == []


def test_steps_that_are_done_are_not_warned_of(tmp_path: Path) -> None:
    for component in ("model", "trainer"):
        (tmp_path / "cosmos3/sft/hello/checkpoints/iter_000000006" / component).mkdir(parents=True)
        (tmp_path / "cosmos3/sft/hello/checkpoints/iter_000000006" / component / ".metadata").touch()
    (said,) = warned(tmp_path, "trainer.max_iter=8")
    assert "steps 7 to 8 have a rate of zero" in said
    assert "its cycles end at step 4" in said
    assert warned(tmp_path, "trainer.max_iter=6") == []


@pytest.mark.torch
def test_the_dry_run_shows_warnings_after_the_plan_and_the_run_logs_them(tmp_path: Path) -> None:
    command = ("run", "hello", *OWN, "trainer.max_iter=8", "--output-root", str(tmp_path))
    told = [line for line in cosmos(*command, "--dry-run").stdout.splitlines() if line.startswith("# warning: ")]
    assert told[0].startswith("# warning: the schedule ends at step 4")
    logged = [line for line in cosmos(*command).stderr.splitlines() if " warning: " in line]
    assert [line.partition(" warning: ")[2] for line in logged] == [line.removeprefix("# warning: ") for line in told]


RATED = {"id": "a", "media": "a.mp4", "conversation": "a.json"}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Stand-ins for data and weights: enough for a plan."""
    root = tmp_path_factory.mktemp("places")
    window = {"start_frame": 0, "end_frame": 60}
    clip = {"uuid": "a", "vision_path": "a.mp4", "width": 64, "height": 64, "duration": 12, "t2w_windows": [window]}
    for file, content in (
        *((f"videophy/videophy2_{split}/meta.json", [RATED]) for split in ("train", "val")),
        *((f"bridge/{split}/video_dataset_file.jsonl", clip) for split in ("train", "val")),
        *((file, []) for file in ("base/model/.metadata", "vae.pth", "vlm/config.json", "vlm/model.safetensors")),
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(json.dumps(content))
    return {
        "DATASET_PATH": str(root / "bridge"),
        "VIDEOPHYSICS_ROOT": str(root / "videophy"),
        "BASE_CHECKPOINT_PATH": str(root / "base"),
        "WAN_VAE_PATH": str(root / "vae.pth"),
        "VLM_SAFETENSORS_PATH": str(root / "vlm"),
    }


@pytest.mark.parametrize("recipe", [recipe.name for recipe in list_recipes() if peek(recipe.path).not_yet is None])
def test_a_smoke_run_of_five_steps_plans_for_every_recipe(recipe: str, places: dict[str, str], tmp_path: Path) -> None:
    command = ("run", recipe, "--dry-run", "trainer.max_iter=5", "--nproc", "8", "--output-root", str(tmp_path))
    said = cosmos(*command, env=places).stdout
    assert "# steps: 5" in said
    assert "# warning: the run of 5 steps ends within its warm-up of" in said
    assert "intervals are longer than the run of 5 steps: checkpoint.save_iter" in said
    assert "has no effect" not in said


@pytest.mark.torch
def test_multipliers_of_zero_for_all_that_trains_are_warned_of_once_the_network_is_there(tmp_path: Path) -> None:
    command = ("run", "hello", *OWN, "--output-root", str(tmp_path))
    told = "no step changes a weight: optimizer.lr_multipliers is 0 for everything that trains"
    assert told in cosmos(*command, 'optimizer.lr_multipliers={"."=0.0}').stderr
    assert told not in cosmos(*command, "job.name=other", "optimizer.lr_multipliers={embed=0.0}").stderr
