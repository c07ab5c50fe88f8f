"""Runs whose loss is not finite: they say so, end with exit code 1, and keep the last good checkpoint the latest."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemWriter

from cosmos_core.checkpoint import DcpWeights
from tests.command import cosmos

RISING = ("scheduler.warm_up_steps=[1]", "trainer.run_validation=false", "trainer.max_iter=12")


def run(root: Path, *more: str, code: int) -> tuple[Path, str]:
    done = cosmos("run", "hello", "--output-root", str(root), *RISING, *more, code=code)
    return root / "cosmos3/sft/hello", done.stderr


def latest(run_dir: Path) -> str:
    return (run_dir / "checkpoints/latest_checkpoint.txt").read_text().strip()


def metrics(run_dir: Path) -> list[dict[str, float | None]]:
    """Strict JSON: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("force_finite", ["true", "false"])
def test_a_rate_that_blows_up_ends_the_run_and_names_step_rank_and_samples(force_finite: str, tmp_path: Path) -> None:
    clip = f"trainer.callbacks.grad_clip.force_finite={force_finite}"
    more = ("optimizer.lr=1e30", "trainer.max_consecutive_nan=3", "checkpoint.save_iter=1", clip)
    run_dir, said = run(tmp_path, *more, code=1)
    assert "error: step 5: loss nan" in said
    assert re.search(r"rank 0, micro-batch 0, loss nan, samples (\d+, ){11}\d+ and 4 more", said)
    assert "3 such steps in a row end the run" in said
    assert "Traceback" not in said
    assert latest(run_dir) == "iter_000000002"
    assert [row["loss"] is None for row in metrics(run_dir)] == [False, False, True, True, True]
    assert json.loads((run_dir / "outcome.json").read_text())["outcome"] == "diverged"


def base_of(root: Path, factor: float, part: str = "net.") -> tuple[str, ...]:
    """A run that starts from another one's weights, those named after `part` times `factor`."""
    run(root, "trainer.max_iter=2", code=0)
    folder, weights = root / "cosmos3/sft/hello/checkpoints/iter_000000002/model", {}
    for prefix, which in (("net.", "live"), ("net_ema.", "ema")):
        stored = DcpWeights(folder, which)
        for name, value in stored.read(list(stored.infos)).items():
            weights[prefix + name] = value * factor if (prefix + name).startswith(part) else value
    dcp.save(weights, storage_writer=FileSystemWriter(root / "base/model"), no_dist=True)
    return f"checkpoint.load_path={root / 'base'}", "model.init=pretrained", "job.name=started"


@pytest.mark.parametrize(("part", "value"), [("net.head.weight", float("nan")), ("net_ema.head.weight", float("inf"))])
def test_weights_or_averages_that_are_not_finite_are_refused_when_they_are_loaded(
    part: str, value: float, tmp_path: Path
) -> None:
    """An average, or an embedding of a word that no sample has, would not show in any loss."""
    _, said = run(tmp_path, *base_of(tmp_path, value, part), code=2)
    assert "the weights to start from are not finite; nothing was started" in said
    assert f"{tmp_path / 'base/model'}  NaN or infinite values in {part.removeprefix('net.')};" in said
    assert not (tmp_path / "cosmos3/sft/started/config.toml").exists()


def test_an_update_that_makes_weights_infinite_ends_the_run_at_the_next_step(tmp_path: Path) -> None:
    run_dir, said = run(tmp_path, "optimizer.lr=1e39", "checkpoint.save_iter=100", code=1)
    assert "error: step 3" in said
    assert "the weights themselves are not finite" in said
    assert not (run_dir / "checkpoints/latest_checkpoint.txt").exists()


@pytest.mark.ranks
def test_two_ranks_end_together_and_each_names_its_samples(tmp_path: Path) -> None:
    more = ("optimizer.lr=1e18", "trainer.max_consecutive_nan=2", "checkpoint.save_iter=2", "--nproc", "2")
    done = cosmos("run", "hello", "--output-root", str(tmp_path), *RISING, *more, code=1)
    run_dir, said = tmp_path / "cosmos3/sft/hello", done.stderr
    assert "outcome: diverged" in done.stdout
    for rank in (0, 1):
        assert re.search(rf"rank {rank}, micro-batch 0, loss nan, samples (\d+, ){{11}}\d+ and 4 more", said)
    assert "Traceback" not in said
    assert latest(run_dir) == "iter_000000002"
    assert json.loads((run_dir / "outcome.json").read_text())["outcome"] == "diverged"


@pytest.mark.ranks
def test_two_ranks_go_back_together_and_train_as_one_does(tmp_path: Path) -> None:
    """Sample 0 is not finite; it comes in step 4."""
    data = (
        "dataloader_train.seed=267",
        "dataloader_train.dataset.count=400",
        "dataloader_train.dataset.not_finite=400",
    )
    back = (*data, "trainer.on_nonfinite=rollback", "checkpoint.save_iter=2", "trainer.max_iter=6")
    run_dirs = []
    for ranks in (1, 2):
        batch = f"dataloader_train.max_samples_per_batch={10 // ranks}"
        more = (*back, batch, "trainer.log_samples=true", "--nproc", str(ranks))
        run_dir, said = run(tmp_path / str(ranks), *more, code=0)
        run_dirs.append(run_dir)
        assert "step 4: loss nan, gradient norm nan; back to step 2 (rollback 1 of 3); the data go on after" in said
    rows = [[(row["step"], row["loss"], row["grad_norm"]) for row in metrics(run_dir)] for run_dir in run_dirs]
    assert [step for step, *_ in rows[1]] == [1, 2, 3, 4, 5, 6]
    assert rows[1] == [pytest.approx(row, rel=2e-5) for row in rows[0]]
    left_out = [keys_of(run_dir / "launches/1/left_out_1.jsonl") for run_dir in run_dirs]
    assert left_out[0] == left_out[1]
    assert (len(left_out[1]), "0" in left_out[1]) == (20, True)
    assert not left_out[1] & (
        keys_of(run_dirs[1] / "samples_rank0.jsonl") | keys_of(run_dirs[1] / "samples_rank1.jsonl")
    )
    (told,) = json.loads(cosmos("runs", "show", str(run_dirs[1]), "--json").stdout)["rollbacks"]
    assert (told["from_step"], told["to_step"], told["left_out"]) == (4, 2, 20)


def keys_of(path: Path) -> set[str]:
    return {json.loads(line)["key"] for line in path.read_text().splitlines()}


def test_an_evaluation_of_what_diverged_says_which_figures_are_not_finite(tmp_path: Path) -> None:
    run_dir, said = run(tmp_path, "optimizer.lr=1e18", "trainer.max_iter=6", "trainer.max_consecutive_nan=9", code=0)
    assert "the last steps were skipped, 4 in a row" in said
    done = cosmos("eval", str(run_dir))
    assert "val_loss: nan" in done.stdout
    assert "not finite: val_loss; the model's outputs are NaN or infinite" in done.stderr
