"""State that earlier versions wrote loads bit for bit, and runs go on from it as they would have without a break.

The state lies in tests/fixtures, a folder for each format; its runs were stopped and their files kept.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.checkpoint import load_component, model_state, stored_keys
from cosmos_core.checkpoint.state import optimizer_state, optimizer_templates, restore_optimizer
from cosmos_core.config.structure import read_resolved
from cosmos_core.distributed import local_mesh
from cosmos_core.optim import trains_only_lora
from cosmos_core.optim.adamw import build_adamw
from cosmos_core.optim.ema import Ema
from cosmos_core.plugin import PluginManager
from cosmos_core.train.build import build_family, materialise
from cosmos_core.train.weights import left_to_base, load_checkpoint
from cosmos_vfm.sizes import MODEL_SIZES
from tests.command import cosmos, losses
from tests.fixtures.reading import digest, sample_order, stored
from tests.fixtures.runs import BEFORE, CACHE, ENVIRONMENT, FOLDERS, PREPARED, RUNS, SMALL, STEPS, KeptRun, copied
from tests.fixtures.small import cosmos_small

BOUND = 1e-5
"""Relative, of losses and gradient norms: other processors sum in another order."""
FORMATS = sorted(path.name for path in FOLDERS.glob("format_*"))
every_run = pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)

pytestmark = pytest.mark.parametrize("kept", FORMATS)


def expected(kept: str, run: KeptRun) -> dict[str, Any]:
    """What the version that wrote the state recorded of a run."""
    return json.loads((FOLDERS / kept / "expected.json").read_text())[run.name]


def unnumbered(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Loader states without their format, since a resumed run writes the present one."""
    return [{name: value for name, value in state.items() if name != "format"} for state in states]


@pytest.fixture
def place(kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, for this process too."""
    place = copied(FOLDERS / kept, tmp_path / "place")
    monkeypatch.chdir(place)
    monkeypatch.setitem(MODEL_SIZES, "tiny", SMALL)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return place


@every_run
def test_weights_average_moments_and_counters_are_read_bit_for_bit(kept: str, run: KeptRun) -> None:
    assert stored(run.checkpoint(FOLDERS / kept)) == expected(kept, run)["checkpoint"]


@every_run
def test_what_a_run_loads_is_what_is_stored(kept: str, run: KeptRun, place: Path) -> None:
    config = read_resolved(run.folder(place) / "config.toml", PluginManager.discover().registry)
    path, mesh = run.checkpoint(place), local_mesh()
    family = build_family(config, PluginManager.discover(), torch.device("cpu"))
    model = materialise(config, family, mesh)
    optimizer = build_adamw(model, config.optimizer)
    ema = Ema(model, config.model.ema) if config.model.ema.enabled else None
    adapters = trains_only_lora(model)
    base, _ = load_checkpoint(path, model, ema, mesh, seed=config.trainer.seed, whole=True)
    assert adapters == (base is not None) == (run.name == "adapters")
    moments = optimizer_templates(model, optimizer, stored_keys(path / "optim"))
    load_component(path / "optim", moments, mesh)
    restore_optimizer(model, optimizer, moments)
    found = expected(kept, run)["checkpoint"]
    assert digest(model_state(model, ema, left_to_base(base, model))) == found["model"]
    assert digest(optimizer_state(model, optimizer)) == found["optim"]


@every_run
def test_samples_follow_in_the_recorded_order(kept: str, run: KeptRun, place: Path) -> None:
    config = read_resolved(run.folder(place) / "config.toml", PluginManager.discover().registry)
    assert sample_order(config, run.checkpoint(place), STEPS - BEFORE) == expected(kept, run)["order"]


@every_run
def test_resumed_runs_go_on_as_the_original_and_equal_each_other(kept: str, run: KeptRun, tmp_path: Path) -> None:
    ends = []
    for name in ("first", "second"):
        place = copied(FOLDERS / kept, tmp_path / name)
        assert "resume from" in cosmos_small(place, *run.arguments(STEPS))
        ends.append((losses(run.folder(place)), stored(run.checkpoint(place, STEPS))))
    assert ends[0] == ends[1]
    figures, last = ends[0]
    recorded = expected(kept, run)
    for step, pair in recorded["losses"].items():
        assert figures[int(step)] == pytest.approx(pair, rel=BOUND)
    assert sorted(figures) == list(range(1, STEPS + 1))
    assert last["iteration"] == last["last_epoch"] == STEPS
    # Later versions add to the loader's state; what was there stays the same.
    for state, old in zip(unnumbered(last["loader"]), unnumbered(recorded["last"]["loader"]), strict=True):
        assert {name: state[name] for name in old} == old


def test_a_run_recorded_under_old_keys_is_resumed_evaluated_and_exported(kept: str, tmp_path: Path) -> None:
    run = next(run for run in RUNS if run.name == "reasoner")
    place = copied(FOLDERS / kept, tmp_path / "place")
    record = run.folder(place) / "config.toml"
    assert ("answer_tokens = 2" in record.read_text()) == (kept == "format_1")
    assert read_resolved(record, PluginManager.discover().registry).model.max_new_tokens == 2
    printed = cosmos_small(place, *run.arguments(STEPS), "model.max_new_tokens=3", "--dry-run")
    assert "model.max_new_tokens 2 -> 3" in printed
    assert "answer_tokens" not in printed
    assert "unreadable: " in cosmos_small(place, "eval", str(run.folder(place)))
    cosmos_small(place, "export", str(run.folder(place)), "-o", "exported")
    assert (place / "exported/config.json").is_file()


def test_a_latent_cache_serves_without_encoding_anything_again(kept: str, tmp_path: Path) -> None:
    place = copied(FOLDERS / kept, tmp_path / "place")
    clips = {path: path.read_bytes() for path in (place / "latents").rglob("*.safetensors")}
    assert f"encoded: 0\nkept: {len(clips)}" in cosmos(*CACHE, env=ENVIRONMENT, cwd=place).stdout
    assert {path: path.read_bytes() for path in (place / "latents").rglob("*.safetensors")} == clips
    run = next(run for run in RUNS if run.name == "generator")
    cosmos_small(place, *run.arguments(STEPS), "dataloader_train.cache=latents")
    for step, pair in expected(kept, run)["losses"].items():
        assert losses(run.folder(place))[int(step)] == pytest.approx(pair, rel=BOUND)


def test_prepared_data_is_known_again(kept: str, tmp_path: Path) -> None:
    place = copied(FOLDERS / kept, tmp_path / "place")
    for arguments in PREPARED:
        assert "already there" in cosmos(*arguments, cwd=place).stdout


def test_a_converted_base_starts_a_run(kept: str, tmp_path: Path) -> None:
    place = copied(FOLDERS / kept, tmp_path / "place")
    run = next(run for run in RUNS if run.name == "adapters")
    shutil.rmtree(place / "runs")
    assert "warm from" in cosmos_small(place, *run.arguments(2))
    assert sorted(losses(run.folder(place))) == [1, 2]
