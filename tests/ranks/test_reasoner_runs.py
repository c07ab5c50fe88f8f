"""The reasoner's shipped recipes through the command line, on a tiny backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cosmos_core.checkpoint.reader import stored_keys
from tests.command import cosmos, losses, metric_records
from tests.physics import write_physics
from tests.tiny_reasoner import write_reasoner

SMALL = (
    "model.precision=float32",
    "model.backbone.safetensors_path=null",
    "model.parallelism.data_parallel_shard_degree=-1",
    "model.parallelism.data_parallel_replicate_degree=1",
    "model.activation_checkpointing.mode=none",
    "model.video_min_pixels=1024",
    "optimizer.lr=1e-3",
    "trainer.max_iter=4",
    "trainer.grad_accum_iter=2",
    "trainer.validation_iter=2",
    "checkpoint.save_iter=2",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[1]",
    "dataloader_train.max_sequence_length=null",
    "dataloader_train.num_workers=0",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reasoner")
    write_reasoner(root / "tiny")
    write_physics(root / "videophysics", train=20, val=6)
    return root


def train(place: Path, root: Path, name: str, *extra: str) -> tuple[Path, str]:
    done = cosmos(
        *("run", "videophy2_sft_nano", f"job.name={name}", *SMALL, f"model.backbone.model_name={place / 'tiny'}"),
        *(*extra, "--output-root", str(root)),
        env={"VIDEOPHYSICS_ROOT": str(place / "videophysics")},
    )
    return root / "cosmos3/vlm_videophy2_sft" / name, done.stderr


@pytest.fixture(scope="module")
def alone(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = "dataloader_train.max_samples_per_batch=4"
    return train(place, tmp_path_factory.mktemp("alone"), "alone", size)[0]


def test_the_recipe_trains_and_validates(alone: Path) -> None:
    assert losses(alone).keys() == {1, 2, 3, 4}
    validations = [record["val_loss"] for record in metric_records(alone) if "val_loss" in record]
    assert len(validations) == 3
    assert validations[-1] < validations[0]


def test_the_frozen_tower_has_no_optimizer_state(alone: Path) -> None:
    moments = stored_keys(alone / "checkpoints/iter_000000004/optim")
    assert any("visual.merger" in name for name in moments)
    assert not any("visual.blocks" in name or "patch_embed" in name for name in moments)


@pytest.mark.ranks
def test_two_ranks_score_as_one_process_does(place: Path, tmp_path: Path) -> None:
    """A model that says grades, and seven questions in batches of two: a rank that runs out answers once more."""
    data = write_physics(tmp_path / "physics", train=8, val=7)
    common = (
        *(f"dataloader_train.dataset.path={data}", f"dataloader_val.dataset.path={data}"),
        *("dataloader_val.max_sequence_length=null", "dataloader_val.max_samples_per_batch=2"),
    )
    taught, _ = train(
        *(place, tmp_path, "taught", *common, "dataloader_train.max_samples_per_batch=4", "optimizer.lr=1e-2"),
        *("trainer.max_iter=20", "trainer.validation_iter=20", "checkpoint.save_iter=20"),
        "scheduler.cycle_lengths=[20]",
    )
    figures, answers = [], []
    for ranks in (1, 2):
        run_dir, _ = train(
            *(place, tmp_path, f"on_{ranks}", *common, "--nproc", str(ranks), "model.max_new_tokens=2"),
            *(f"dataloader_train.max_samples_per_batch={4 // ranks}", "optimizer.lr=1e-5"),
            f"checkpoint.load_path={taught / 'checkpoints/iter_000000020/model'}",
        )
        found = {record["step"]: record for record in metric_records(run_dir) if "val_loss" in record}
        assert found.keys() == {0, 2, 4}
        figures.append(found)
        answers.append([path.read_text() for path in sorted(run_dir.rglob("answers.jsonl"))])
    assert answers[0] == answers[1]
    said = [[json.loads(line)["prediction"] for line in text.splitlines()] for text in answers[0]]
    assert all(len(grades) == 7 and len(set(grades)) > 1 for grades in said)
    assert len(said) == 3
    for step, record in figures[0].items():
        other = figures[1][step]
        assert record["unreadable"] == 0
        assert record["accuracy"] > 0
        for name in ("accuracy", "mean_absolute_error", "unreadable"):
            assert other[name] == record[name]
        assert other["val_loss"] == pytest.approx(record["val_loss"], rel=1e-5)


def test_the_reasoner_continues_exactly(place: Path, alone: Path, tmp_path: Path) -> None:
    size = "dataloader_train.max_samples_per_batch=4"
    run_dir, _ = train(place, tmp_path, "again", size)
    shutil.rmtree(run_dir / "checkpoints/iter_000000004")
    _, log = train(place, tmp_path, "again", size)
    assert "iter_000000002" in log
    assert losses(run_dir) == losses(alone)


def test_a_token_cap_packs_several_dialogs(place: Path, tmp_path: Path) -> None:
    caps = ("dataloader_train.max_samples_per_batch=null", "dataloader_train.max_sequence_length=500")
    run_dir, _ = train(place, tmp_path, "packed", *caps)
    tokens = [record["tokens"] for record in metric_records(run_dir) if "loss" in record]
    assert all(500 < count < 1000 for count in tokens)


@pytest.mark.parametrize(
    "recipe",
    [
        *("llava_ov", "videophy2_sft_nano", "videophy2_sft_super"),
        *("llava_ov_packed", "videophy2_packed_nano", "videophy2_packed_super"),
    ],
)
def test_contract_recipes_plan_for_eight_processes(place: Path, tmp_path: Path, recipe: str) -> None:
    (tmp_path / "examples/checkpoints").mkdir(parents=True)
    for name in ("Cosmos3-Nano-VLM", "Cosmos3-Super-VLM"):
        (tmp_path / "examples/checkpoints" / name).mkdir()
        (tmp_path / "examples/checkpoints" / name / "model.safetensors").touch()
    attention = "model.attn_implementation=cosmos"
    done = cosmos(
        *("run", recipe, attention, "--dry-run", "--nproc", "8", "--output-root", str(tmp_path / "runs")),
        env={"VIDEOPHYSICS_ROOT": str(place / "videophysics")},
        cwd=tmp_path,
    )
    assert "processes: 8 (shard 8 x replicate 1" in done.stdout
    assert "weights: pretrained" in done.stdout
    assert not (tmp_path / "runs").exists()
