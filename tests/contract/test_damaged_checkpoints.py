"""A damaged checkpoint is never trained on in silence: it is named, and the newest whole one is taken if asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import cosmos, losses

STEPS = ("trainer.run_validation=false", "checkpoint.save_iter=2")


def run(root: Path, steps: int, *arguments: str, code: int = 0) -> str:
    """What the command says."""
    length = f"trainer.max_iter={steps}"
    done = cosmos("run", "hello", *STEPS, length, *arguments, "--output-root", str(root), code=code)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output root of a run with checkpoints of steps 2, 4 and 6."""
    root = tmp_path_factory.mktemp("root")
    run(root, 6)
    return root


def flip(path: Path) -> None:
    """Change one bit, as a failing disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_each_kind_of_damage_is_named_and_the_checkpoint_before_it_resumes_exactly(
    trained: Path,
) -> None:
    run_dir = trained / "cosmos3/sft/hello"
    whole = losses(run_dir)
    checkpoints = run_dir / "checkpoints"
    assert "iter_000000006: whole" in cosmos("checkpoints", "verify", str(run_dir)).stdout

    flip(checkpoints / "iter_000000006/model/__0_0.distcp")
    # The last launch ended well, so the bytes are read when asked for.
    said = run(trained, 8, "--verify", code=2)
    assert "iter_000000006  is damaged: model/__0_0.distcp holds other bytes" in said
    assert "checkpoint.fallback=true resumes from iter_000000004" in said
    # Now it is known, also to a dry run and to other commands.
    assert "is damaged" in run(trained, 8, "--dry-run", code=2)
    assert "is damaged" in cosmos("eval", str(run_dir), code=2).stderr
    verified = json.loads(cosmos("checkpoints", "verify", str(run_dir), "--json", code=2).stdout)
    assert {name: bool(lines) for name, lines in verified.items()} == {
        "iter_000000002": False,
        "iter_000000004": False,
        "iter_000000006": True,
    }

    (checkpoints / "iter_000000004/optim/.metadata").unlink()
    said = run(trained, 8, "checkpoint.fallback=true", "--dry-run")
    assert "iter_000000002" in said
    assert "iter_000000006 is damaged" in said

    run(trained, 8, "checkpoint.fallback=true")
    assert {step: figures for step, figures in losses(run_dir).items() if step <= 6} == whole
    assert "iter_000000006: whole" in cosmos("checkpoints", "verify", str(run_dir)).stdout, "it was saved again"

    flip(checkpoints / "iter_000000008/optim/__0_0.distcp")
    (run_dir / "outcome.json").unlink()
    assert "optim/__0_0.distcp holds other bytes" in run(trained, 10, code=2), "a killed launch leaves no outcome"


def test_a_newest_checkpoint_that_lost_its_manifest_is_neither_trusted_nor_passed_over_in_silence(
    tmp_path: Path,
) -> None:
    run(tmp_path, 6)
    run_dir = tmp_path / "cosmos3/sft/hello"
    newest = run_dir / "checkpoints/iter_000000006"
    (newest / "manifest.json").unlink()
    (newest / "model/__0_0.distcp").write_bytes(b"cut")
    said = cosmos("checkpoints", "verify", str(run_dir), code=2).stdout
    assert "iter_000000006: manifest.json is missing, which earlier ones have" in said
    assert "iter_000000006: manifest.json is missing" in cosmos("checkpoints", "verify", str(newest), code=2).stdout
    assert "model cannot be read as a checkpoint" in run(tmp_path, 8, code=2)
    said = run(tmp_path, 8, "checkpoint.fallback=true", "--dry-run")
    assert "iter_000000004 (iter_000000006 is damaged: manifest.json is missing" in said

    (newest / "model/.metadata").unlink()
    said = run(tmp_path, 8, code=2)
    assert "iter_000000006  is damaged: manifest.json and model/.metadata are missing" in said
    assert "checkpoint.fallback=true resumes from iter_000000004" in said
    assert "manifest.json and model/.metadata are missing" in cosmos("eval", str(run_dir), code=2).stderr
    assert "and model/.metadata are missing" in cosmos("checkpoints", "verify", str(run_dir), code=2).stdout
    run(tmp_path, 8, "checkpoint.fallback=true")
    assert "iter_000000006: whole" in cosmos("checkpoints", "verify", str(run_dir)).stdout, "it was saved again"
