"""A run goes on with its backbone's folder in another place, while its configuration files are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.command import cosmos
from tests.physics import write_physics
from tests.tiny_reasoner import write_reasoner

SHORT = (
    "trainer.run_validation=false",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[0]",
    "dataloader_train.max_samples_per_batch=2",
    "model.init=pretrained",
    "model.video_min_pixels=1024",
)
UNREACHABLE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DISABLE_TELEMETRY": "1"}


def trained(root: Path, steps: int, backbone: str, *more: str, code: int = 0, **env: str) -> str:
    command = ("run", "videophy2_demo", "--output-root", "out", "job.name=moved", f"trainer.max_iter={steps}", *SHORT)
    given = {"VIDEOPHYSICS_ROOT": str(root / "physics"), **env}
    return cosmos(*command, f"model.backbone.model_name={backbone}", *more, env=given, code=code, cwd=root).stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a run has trained two steps of a backbone that has been moved since."""
    write_reasoner(tmp_path / "models/old")
    write_physics(tmp_path / "physics", train=4, val=1)
    trained(tmp_path, 2, "models/old")
    (tmp_path / "models/old").rename(tmp_path / "models/new")
    return tmp_path


def test_a_moved_backbone_is_listed_and_the_run_goes_on_and_is_evaluated(root: Path) -> None:
    said = trained(root, 4, "models/new")
    assert 'model.backbone.model_name "models/old" -> "models/new"' in said
    assert "done at step 4/4" in said
    environment = {"VIDEOPHYSICS_ROOT": str(root / "physics")}
    cosmos("eval", "out/cosmos3/sft/moved", "model.backbone.model_name=models/new", env=environment, cwd=root)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_another_backbone_in_its_place_is_refused(root: Path, file: str) -> None:
    shutil.copytree(root / "models/new", root / "models/other")
    settings = json.loads((root / "models/other" / file).read_text())
    (root / "models/other" / file).write_text(json.dumps({**settings, "another": 1}))
    said = trained(root, 4, "models/other", code=2)
    assert 'model.backbone.model_name: is "models/other", iter_000000002 (launch 1) was trained with' in said


def test_a_backbone_that_is_not_there_is_said_so(root: Path) -> None:
    said = trained(root, 4, "models/old", code=2, **UNREACHABLE)
    assert f"no such folder: {root / 'models/old'}; on the Hub 'models/old' cannot be fetched" in said
