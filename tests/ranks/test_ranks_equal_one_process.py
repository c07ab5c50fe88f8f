"""Whole commands that equal one process: ranks that torchrun starts, accumulation, mixed precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import cosmos, losses, metric_records, module

BOUND = 2e-5
"""Largest relative difference of losses: float32 sums in another order, through twelve updates."""

STEPS = ("trainer.max_iter=12", "scheduler.cycle_lengths=[12]", "trainer.validation_iter=6", "checkpoint.save_iter=12")
NOISY = ("model.noise=0.3", "dataloader_val.max_samples_per_batch=3")


def train(root: Path, name: str, *overrides: str, nproc: int = 1) -> Path:
    cosmos(
        "run",
        "hello",
        f"job.name={name}",
        *STEPS,
        *NOISY,
        *overrides,
        "--nproc",
        str(nproc),
        "--output-root",
        str(root),
    )
    return root / "cosmos3/sft" / name


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, 16 samples at once."""
    return train(tmp_path_factory.mktemp("runs"), "alone")


def differ(first: Path, second: Path) -> float:
    ours, theirs = losses(first), losses(second)
    assert ours.keys() == theirs.keys() == set(range(1, 13))
    pairs = [(a, b) for step in ours for a, b in zip(ours[step], theirs[step], strict=True)]
    validations = [
        [record["val_loss"] for record in metric_records(run) if "val_loss" in record] for run in (first, second)
    ]
    assert len(validations[0]) == len(validations[1]) == 3
    pairs += list(zip(*validations, strict=True))
    return max(abs(a - b) / abs(b) for a, b in pairs)


def test_four_accumulated_pieces_equal_one_batch(alone: Path, tmp_path: Path) -> None:
    pieces = ("trainer.grad_accum_iter=4", "dataloader_train.max_samples_per_batch=4")
    assert differ(train(tmp_path, "pieces", *pieces), alone) < BOUND


@pytest.mark.ranks
def test_torchrun_from_outside_runs_the_same(alone: Path, tmp_path: Path) -> None:
    arguments = ("hello", "job.name=outer", *STEPS, *NOISY, "dataloader_train.max_samples_per_batch=8")
    done = module(
        *("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cosmos_core", "run"),
        *arguments,
        *("--output-root", str(tmp_path)),
    )
    assert "outcome: done" in done.stdout
    assert differ(tmp_path / "cosmos3/sft/outer", alone) < BOUND


@pytest.mark.ranks
def test_mixed_precision_trains_close_to_float32(alone: Path, tmp_path: Path) -> None:
    mixed = train(tmp_path, "mixed", "model.precision=bfloat16")
    assert differ(mixed, alone) < 0.05
    assert differ(mixed, alone) > 0
