"""Runs that train adapters alone: what they build on is recorded, checked and filled in again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attrs import evolve
from safetensors.torch import save_file

from cosmos_core.checkpoint import (
    DcpWeights,
    FrozenBase,
    base_of_adapters,
    fingerprint,
    save_checkpoint,
    stored_keys,
    trained_weights,
)
from cosmos_core.config import OptimizerConfig
from cosmos_core.errors import UserError
from cosmos_core.plan.plan import WeightSource
from cosmos_core.train import BuildContext, Trainer
from cosmos_core.train.build import materialise
from cosmos_core.train.weights import load_base
from tests.unit.train.adapted import MESH, AdaptedFamily, config_of, ready, weights


def tensors_of(trainer: Trainer) -> dict[str, str | None]:
    """What the record of a base says of a run of adapters alone."""
    return {name: None if "lora_" in name else "float32" for name in trainer.model.state_dict()}


def fresh_base(trainer: Trainer, *, left_out: bool) -> FrozenBase:
    tensors = tensors_of(trainer)
    return FrozenBase(folder="", digest="", dcp=False, rank=4, alpha=6, seed=3, tensors=tensors, left_out=left_out)


def test_adapters_on_fresh_weights_are_saved_with_them_and_can_be_merged(tmp_path: Path) -> None:
    first = ready(tmp_path, config_of(adapters=True))
    assert first.train() == "done"
    path, expected = first.paths.iteration(3), fresh_base(first, left_out=False)
    assert first.base == FrozenBase.read(path) == expected
    merged = trained_weights(path, "live")
    assert set(merged.infos) == {name for name in first.model.state_dict() if "lora_" not in name}
    again = ready(tmp_path, config_of(adapters=True, seed=4), WeightSource(kind="resume", path=path))
    assert (weights(again), again.step, again.base) == (weights(first), 3, expected)
    with pytest.raises(UserError, match="no base to load them onto; leave out --adapter"):
        base_of_adapters(path, DcpWeights(path / "model", "live"))


def test_adapters_whose_fresh_weights_were_not_saved_go_on_from_the_seed(tmp_path: Path) -> None:
    """As older versions saved them. The next checkpoint has all."""
    first = ready(tmp_path, config_of(adapters=True))
    first.base = fresh_base(first, left_out=True)
    first.train()
    path = first.paths.iteration(3)
    assert all(".lora_" in name for name in stored_keys(path / "model"))
    with pytest.raises(UserError, match="an older version did not save"):
        trained_weights(path, "live")
    again = ready(tmp_path, config_of(adapters=True), WeightSource(kind="resume", path=path))
    assert (weights(again), again.step, again.base) == (weights(first), 3, fresh_base(first, left_out=False))
    with pytest.raises(UserError, match="base would differ"):
        ready(tmp_path, config_of(adapters=True, seed=4), WeightSource(kind="resume", path=path))


def test_adapters_on_a_base_find_it_again_and_notice_when_it_changed(tmp_path: Path) -> None:
    whole = ready(tmp_path / "whole", config_of(adapters=False))
    assert whole.base is None
    whole.train()
    base = whole.paths.iteration(3)
    first = ready(
        tmp_path / "run", config_of(adapters=True, seed=9, strict=False), WeightSource(kind="warm", path=base)
    )
    folder = base / "model"
    digest, tensors = fingerprint(folder), tensors_of(first)
    expected = FrozenBase(folder=str(folder), digest=digest, dcp=True, rank=4, alpha=6, tensors=tensors)
    assert first.base == expected
    begun, below = weights(first), weights(whole)
    assert {name: value for name, value in begun.items() if "lora_" not in name} == below
    assert not any(any(value) for name, value in begun.items() if "lora_B" in name)
    first.train()
    path = first.paths.iteration(3)
    again = ready(tmp_path / "run", config_of(adapters=True, seed=9), WeightSource(kind="resume", path=path))
    assert (weights(again), again.base) == (weights(first), expected)
    stored = next(folder.glob("*.distcp"))
    stored.write_bytes(stored.read_bytes()[::-1])
    with pytest.raises(UserError, match="base has changed"):
        ready(tmp_path / "run", config_of(adapters=True, seed=9), WeightSource(kind="resume", path=path))


def test_adapters_on_the_familys_own_files_record_them_and_follow_them_to_another_place(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    whole = ready(tmp_path / "whole", config_of(adapters=False)).model.state_dict()
    save_file(whole, files / "model.safetensors")
    trainer = ready(tmp_path, config_of(adapters=True), files=files)
    digest, tensors = fingerprint(files), tensors_of(trainer)
    base = FrozenBase(folder=str(files), digest=digest, dcp=False, rank=4, alpha=6, tensors=tensors)
    assert trainer.base == base
    trainer.train()
    moved = files.rename(tmp_path / "moved")
    source = WeightSource(kind="resume", path=trainer.paths.iteration(3))
    again = ready(tmp_path, config_of(adapters=True, seed=9), source, moved)
    assert (weights(again), again.base) == (weights(trainer), evolve(base, folder=str(moved)))


def test_a_run_that_changed_no_adapter_is_refused_at_its_end(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 steps changed no adapter"):
        ready(tmp_path, config_of(adapters=True, lr=0.0)).train()
    assert ready(tmp_path / "whole", config_of(adapters=False, lr=0.0)).train() == "done"


@pytest.mark.parametrize(("keys", "taken"), [(("lora_",), False), ((), True)], ids=["adapters alone", "all"])
def test_a_start_takes_the_adapters_of_its_base_unless_nothing_else_trains(
    keys: tuple[str, ...], taken: bool, tmp_path: Path
) -> None:
    config = evolve(config_of(adapters=True), optimizer=OptimizerConfig(lr=1e-2, keys_to_select=keys))
    family = AdaptedFamily(config.model, BuildContext(MESH.device, config.dataloader_train))  # type: ignore[arg-type]
    model = materialise(config, family, MESH)
    weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    base = save_checkpoint(tmp_path, 1, {"model": {f"net.{name}": value for name, value in weights.items()}}, {}, MESH)
    loaded = load_base(base, model, None, MESH, skip=(), strict=True)
    assert any("lora_" in name for name in loaded.tensors) == taken
    assert any("lora_" not in name for name in loaded.tensors)
