"""What a load of weights fills, leaves out and refuses; what a save leaves behind when the disk is full."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cosmos_core.checkpoint.load import Loaded, load_loader_states, load_model
from cosmos_core.checkpoint.save import save_checkpoint
from cosmos_core.checkpoint.state import (
    model_state,
    optimizer_state,
    optimizer_templates,
    random_state,
    restore_optimizer,
    restore_random_state,
)
from cosmos_core.config import Ema as EmaConfig
from cosmos_core.console import Progress
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import UserError
from cosmos_core.optim.ema import Ema
from cosmos_core.plan.frozen_base import FrozenBase
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.trained import Trained, trained_by

MESH = local_mesh()


class Network(nn.Module):
    """Two parts; `frozen` never trains."""

    def __init__(self, width: int = 3, value: float = 0.0, parts: tuple[str, ...] = ("body", "frozen")) -> None:
        super().__init__()
        for name in parts:
            self.add_module(name, nn.Linear(width, 2))
        for parameter in self.parameters():
            parameter.data.fill_(value)
        if "frozen" in parts:
            self.frozen.requires_grad_(False)  # type: ignore[operator]


def averaged(model: nn.Module, value: float = 0.0) -> Ema:
    ema = Ema(model, EmaConfig())
    for shadow in ema.shadows.values():
        shadow.fill_(value)
    return ema


def stored(root: Path, model: nn.Module, ema: Ema | None = None, **more: torch.Tensor) -> Path:
    """Folder ``model/`` of a checkpoint; more: tensors beside the model's, dots written as double underscores."""
    extra = {name.replace("__", "."): value for name, value in more.items()}
    state = {**model_state(model, ema), **extra}
    return save_checkpoint(root, 1, {"model": state}, {"format": 1}, MESH) / "model"


def values(tensors: Any) -> set[float]:
    return {value for tensor in tensors for value in tensor.detach().flatten().tolist()}


BODY, FROZEN = frozenset({"body.weight", "body.bias"}), frozenset({"frozen.weight", "frozen.bias"})


def test_weights_and_averages_come_back_and_are_named(tmp_path: Path) -> None:
    source = Network(value=1.0)
    folder = stored(tmp_path, source, averaged(source, 2.0))
    model = Network()
    ema = averaged(model)
    assert load_model(folder, model, ema, MESH) == Loaded(BODY | FROZEN, BODY, ())
    assert values(model.parameters()) == {1.0}
    assert values(ema.shadows.values()) == {2.0}


def test_averages_without_a_place_are_unused_in_a_start_and_refused_in_a_resume(tmp_path: Path) -> None:
    source = Network(value=1.0)
    folder = stored(tmp_path, source, averaged(source, 2.0))
    loaded = load_model(folder, Network(), None, MESH, whole=False)
    assert loaded == Loaded(BODY | FROZEN, frozenset(), ("net_ema.body.bias", "net_ema.body.weight"))
    with pytest.raises(UserError, match="does not fit") as error:
        load_model(folder, Network(), None, MESH)
    assert "2 tensors are not part of the model: net_ema.body.bias, net_ema.body.weight" in str(
        error.value.problems[0].message
    )


@pytest.mark.parametrize(("key", "near"), [("fozen", "'frozen'"), ("net.bodi.", "'net.body'"), ("zzz", "names look")])
def test_what_is_to_be_left_out_must_be_part_of_a_name(tmp_path: Path, key: str, near: str) -> None:
    folder = stored(tmp_path, Network(value=1.0))
    with pytest.raises(UserError) as error:
        load_model(folder, Network(), None, MESH, skip=("body", key), whole=False)
    (problem,) = error.value.problems
    assert (problem.key, f"'{key}' is part of no tensor's name" in problem.message) == (
        "checkpoint.keys_to_skip_loading", True,
    )  # fmt: skip
    assert near in problem.hint


def test_averages_and_adapters_may_be_left_out_where_there_are_none(tmp_path: Path) -> None:
    folder = stored(tmp_path, Network(value=1.0), other__weight=torch.ones(1))
    skip = ("net_ema.", "lora_", "other")
    assert load_model(folder, Network(), None, MESH, skip=skip, whole=False).tensors == BODY | FROZEN


def test_averages_that_are_not_there_are_left_alone_in_a_start_and_missing_in_a_resume(tmp_path: Path) -> None:
    folder = stored(tmp_path, Network(value=1.0))
    model = Network()
    ema = averaged(model, 5.0)
    assert load_model(folder, model, ema, MESH, whole=False) == Loaded(BODY | FROZEN, frozenset(), ())
    assert values(ema.shadows.values()) == {5.0}
    with pytest.raises(UserError) as error:
        load_model(folder, model, ema, MESH)
    assert error.value.problems[0].message.startswith("2 tensors are missing: net_ema.body.bias")


def test_averages_of_frozen_weights_beside_the_models_own_are_no_error(tmp_path: Path) -> None:
    source = Network(value=1.0)
    more = {"net_ema__frozen__weight": torch.ones(2, 3)}
    folder = stored(tmp_path, source, averaged(source, 2.0), **more)
    model = Network()
    assert load_model(folder, model, averaged(model), MESH).unused == ("net_ema.frozen.weight",)
    surplus = stored(tmp_path, source, averaged(source, 2.0), net_ema__head__weight=torch.ones(1))
    with pytest.raises(UserError, match="does not fit"):
        load_model(surplus, model, averaged(model), MESH)
    assert load_model(surplus, model, averaged(model), MESH, whole=False).unused == ("net_ema.head.weight",)


@pytest.mark.parametrize(
    ("strict", "whole", "fits"), [(True, True, False), (True, False, False), (False, True, False), (False, False, True)]
)
def test_missing_tensors_are_an_error_unless_a_start_is_not_strict(
    tmp_path: Path, strict: bool, whole: bool, fits: bool
) -> None:
    folder, model = stored(tmp_path, Network(value=1.0, parts=("body",))), Network()
    if fits:
        assert load_model(folder, model, None, MESH, strict=strict, whole=whole).tensors == BODY
        assert values(model.body.parameters()) == {1.0}  # type: ignore[union-attr]
        assert values(model.frozen.parameters()) == {0.0}  # type: ignore[union-attr]
        return
    with pytest.raises(UserError) as error:
        load_model(folder, model, None, MESH, strict=strict, whole=whole)
    assert "2 tensors are missing: net.frozen.bias, net.frozen.weight" in error.value.problems[0].message
    assert values(model.parameters()) == {0.0}


def test_skipped_tensors_stay_and_are_not_missed(tmp_path: Path) -> None:
    folder, model = stored(tmp_path, Network(value=1.0)), Network()
    loaded = load_model(folder, model, None, MESH, skip=("frozen",), whole=False)
    assert loaded == Loaded(BODY, frozenset(), ("net.frozen.bias", "net.frozen.weight"))
    assert values(model.frozen.parameters()) == {0.0}  # type: ignore[union-attr]
    partial = stored(tmp_path, Network(value=1.0, parts=("body",)))
    assert load_model(partial, Network(), None, MESH, skip=("frozen",)).tensors == BODY


def test_a_load_that_would_fill_nothing_is_refused(tmp_path: Path) -> None:
    folder = stored(tmp_path, Network(parts=("other",)))
    with pytest.raises(UserError, match="does not fit"):
        load_model(folder, Network(), None, MESH, strict=False, whole=False)


def test_another_shape_is_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    folder, model = stored(tmp_path, Network(width=4, value=1.0)), Network()
    with pytest.raises(UserError) as error:
        load_model(folder, model, None, MESH, strict=False, whole=False)
    assert "body.weight (2, 4) instead of (2, 3)" in error.value.problems[0].message
    assert values(model.parameters()) == {0.0}
    assert load_model(folder, model, None, MESH, skip=("weight",), whole=False).tensors == {"body.bias", "frozen.bias"}


def test_a_surplus_tensor_is_an_error_in_a_part_that_the_model_has(tmp_path: Path) -> None:
    folder = stored(tmp_path, Network(), net__body__gate=torch.ones(1), net__head__weight=torch.ones(1))
    with pytest.raises(UserError) as error:
        load_model(folder, Network(), None, MESH, whole=False)
    assert error.value.problems[0].message == "1 tensor is not part of the model: net.body.gate"
    loose = load_model(folder, Network(), None, MESH, strict=False, whole=False)
    assert loose.unused == ("net.body.gate", "net.head.weight")
    assert load_model(folder, Network(), None, MESH, skip=("gate",), whole=False).unused == loose.unused
    with pytest.raises(UserError, match="does not fit"):
        load_model(folder, Network(), None, MESH, strict=False)


def test_layers_past_those_of_a_cut_model_are_named_and_nothing_else_is_let_through(tmp_path: Path) -> None:
    def network(layers: int) -> nn.Module:
        return nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(2, 2) for _ in range(layers))})

    folder = stored(tmp_path, network(3))
    cut = load_model(folder, network(2), None, MESH, whole=False, num_layers=2)
    assert cut.unused == ("net.layers.2.bias", "net.layers.2.weight")
    with pytest.raises(UserError, match="does not fit"):
        load_model(folder, network(2), None, MESH, whole=False)
    other = stored(tmp_path / "other", network(2), net__layers__1__gate=torch.ones(1))
    with pytest.raises(UserError, match="does not fit"):
        load_model(other, network(2), None, MESH, whole=False, num_layers=2)


def test_adapters_without_a_place_are_always_an_error(tmp_path: Path) -> None:
    folder = stored(tmp_path, Network(), net__body__lora_A__default__weight=torch.ones(1))
    with pytest.raises(UserError, match="does not fit"):
        load_model(folder, Network(), None, MESH, strict=False, whole=False)


def test_a_checkpoint_of_adapters_alone_fills_them_alone(tmp_path: Path) -> None:
    class Adapted(Network):
        def __init__(self, value: float) -> None:
            super().__init__(value=value)
            self.body.lora_A = nn.Linear(3, 1, bias=False)  # type: ignore[union-attr]
            self.body.lora_A.weight.data.fill_(value)  # type: ignore[union-attr]

    others = {name for name in Adapted(1.0).state_dict() if "lora_" not in name}
    state = model_state(Adapted(1.0), None, others)
    assert state.keys() == {"net.body.lora_A.weight"}
    folder = save_checkpoint(tmp_path, 1, {"model": state}, {}, MESH) / "model"
    model = Adapted(0.0)
    assert load_model(folder, model, None, MESH, left_out=others).tensors == {"body.lora_A.weight"}
    assert values([model.body.lora_A.weight]) == {1.0}  # type: ignore[union-attr]
    assert values([model.body.weight]) == {0.0}  # type: ignore[union-attr]


def test_loader_states_come_in_the_order_of_ranks(tmp_path: Path) -> None:
    for rank in (10, 2, 0, 1):
        torch.save({"format": 1, "rank": rank}, tmp_path / f"rank_{rank}.pkl")
    assert [state["rank"] for state in load_loader_states(tmp_path)] == [0, 1, 2, 10]


@pytest.mark.parametrize("fused", [True, False])
def test_moments_and_counts_come_back_and_what_was_never_updated_stays_so(fused: bool) -> None:
    def parts(value: float) -> tuple[Network, torch.optim.AdamW]:
        model = Network(value=value)
        return model, torch.optim.AdamW(model.parameters(), fused=fused)

    model, optimizer = parts(1.0)
    model.body.weight.grad = torch.full((2, 3), 0.5)  # type: ignore[union-attr]
    for _ in range(3):
        optimizer.step()
    state = optimizer_state(model, optimizer)
    other, again = parts(0.0)
    templates = optimizer_templates(other, again, state.keys())
    names = {"state.net.body.weight.exp_avg", "state.net.body.weight.exp_avg_sq", "state.net.body.weight.step"}
    assert templates.keys() == names
    assert values(templates.values()) == {0.0}
    restore_optimizer(other, again, {name: state[name] for name in templates})
    assert list(again.state) == [other.body.weight]  # type: ignore[union-attr]
    restored, original = again.state[other.body.weight], optimizer.state[model.body.weight]  # type: ignore[union-attr]
    assert restored.keys() == original.keys()
    assert all(torch.equal(restored[name], original[name]) for name in original)
    assert float(restored["step"]) == 3


def test_before_the_first_update_there_are_no_moments_and_none_are_made() -> None:
    """torch makes some by a step of its own, after which the run's first one would count as the second."""
    model = Network(value=1.0)
    optimizer = torch.optim.AdamW(model.parameters())
    assert {name.partition(".")[0] for name in optimizer_state(model, optimizer)} == {"param_groups"}
    assert not optimizer.state


@pytest.mark.parametrize(("fused", "device"), [(True, "meta"), (False, "cpu")])
def test_counts_of_updates_lie_where_the_optimizers_kernel_reads_them(fused: bool, device: str) -> None:
    model = Network().to("meta")
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.param_groups[0]["fused"] = fused
    name = "state.net.body.weight"
    templates = optimizer_templates(model, optimizer, {f"{name}.step", f"{name}.exp_avg"})
    assert {name: value.device.type for name, value in templates.items()} == {
        f"{name}.step": device,
        f"{name}.exp_avg": "meta",
    }


def draws() -> list[float]:
    return [float(torch.rand(())), np.random.random(), np.random.normal(), random.random(), random.gauss(0, 1)]


@pytest.mark.parametrize("before", range(4))
def test_random_numbers_go_on_where_they_were(before: int) -> None:
    """Odd numbers of normal draws leave half a pair behind."""
    for _ in range(before):
        np.random.normal()
        random.gauss(0, 1)
    state = {name: value.clone() for name, value in random_state().items()}
    expected = [draws() for _ in range(3)]
    restore_random_state(state)
    assert [draws() for _ in range(3)] == expected


class Failing:
    """Cannot be written."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_the_earlier_checkpoint_the_latest(tmp_path: Path, number: int) -> None:
    save_checkpoint(tmp_path, 1, {}, {}, MESH)
    error = OSError(number, "no room")
    with pytest.raises(UserError, match="step 2 could not be written") as refused:
        save_checkpoint(tmp_path, 2, {}, Failing(error), MESH)
    assert "no room" in refused.value.problems[0].message
    assert contents(tmp_path) == {"iter_000000001", "latest_checkpoint.txt"}
    assert (tmp_path / "latest_checkpoint.txt").read_text() == "iter_000000001\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere folders are exchanged by two renames")
def test_a_step_that_is_saved_again_is_there_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between two renames would leave neither."""
    folder = save_checkpoint(tmp_path, 1, {}, {"format": 1}, MESH)
    rename = Path.rename

    def checked(path: Path, target: Path) -> Path:
        assert path != folder, "it is moved away before the new one is in its place"
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", checked)
    save_checkpoint(tmp_path, 1, {}, {"format": 2}, MESH)
    assert load_loader_states(folder / "dataloader") == [{"format": 2}]
    assert contents(tmp_path) == {"iter_000000001", "latest_checkpoint.txt"}


def test_a_full_disk_is_reported_when_another_rank_has_cleaned_up_already(tmp_path: Path) -> None:
    class CleanedUp(Failing):
        def __reduce__(self) -> Any:
            shutil.rmtree(tmp_path / ".iter_000000002.partial")
            return super().__reduce__()

    with pytest.raises(UserError, match="step 2 could not be written"):
        save_checkpoint(tmp_path, 2, {}, CleanedUp(OSError(errno.ENOSPC, "no room")), MESH)


def test_an_interruption_while_tensors_are_written_stays_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {}, {}, MESH)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 2, {"model": {"words": Failing(KeyboardInterrupt())}}, {}, MESH)
    assert (tmp_path / "latest_checkpoint.txt").read_text() == "iter_000000001\n"


def test_another_failure_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of another kind"):
        save_checkpoint(tmp_path, 2, {}, Failing(ValueError("of another kind")), MESH)
    assert not (tmp_path / "latest_checkpoint.txt").exists()


def test_the_newest_checkpoint_is_the_latest_and_knows_its_launch(tmp_path: Path) -> None:
    layout = RunPaths(tmp_path)
    for step in (3, 12):
        record = layout.launch(step).config_toml
        record.parent.mkdir(parents=True)
        record.touch()
        path = save_checkpoint(layout.checkpoints, step, {}, {"step": step}, MESH, launch=step)
        assert trained_by(path) == Trained(record, step)
    assert (layout.checkpoints / "latest_checkpoint.txt").read_text() == "iter_000000012\n"
    assert load_loader_states(path / "dataloader") == [{"step": 12}]


def test_a_save_counts_the_bytes_that_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[float, float]] = []
    monkeypatch.setattr(Progress, "end", lambda saving: counted.append((saving.done, saving.total)))
    tensors = {"a": torch.zeros(1000), "b": torch.zeros(10, dtype=torch.bfloat16)}
    save_checkpoint(tmp_path, 1, {"model": tensors, "optim": {"c": torch.zeros(5)}}, {}, MESH)
    assert counted == [(4040.0, 4040)]


def test_what_adapters_build_on_is_recorded(tmp_path: Path) -> None:
    base = FrozenBase(folder="/base", digest="abc", dcp=True, rank=4, alpha=8, seed=None)
    path = save_checkpoint(tmp_path, 1, {}, {}, MESH, base=base)
    assert FrozenBase.read(path) == base
    assert FrozenBase.read(save_checkpoint(tmp_path, 2, {}, {}, MESH)) is None


def test_a_checkpoint_is_on_the_disk_before_it_is_the_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file and folder is synced before the name that leads to it appears."""
    synced: list[tuple[str, bool, bool]] = []
    sizes: dict[str, int] = {}
    real, latest, final = os.fsync, tmp_path / "latest_checkpoint.txt", tmp_path / "iter_000000004"

    def fsync(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        synced.append((name, final.exists(), latest.exists()))
        sizes[name] = os.fstat(descriptor).st_size
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    base = FrozenBase(folder="/base", digest="abc", dcp=True)
    save_checkpoint(tmp_path, 4, {"model": {"net.weight": torch.ones(2)}}, {}, MESH, base=base, launch=7)
    assert sizes["rank_0.pkl"] == (final / "dataloader/rank_0.pkl").stat().st_size > 0
    hidden = {name for name, visible, _ in synced if not visible}
    assert hidden >= {"rank_0.pkl", "dataloader", "model", ".iter_000000004.partial"}
    assert hidden >= {path.name for path in final.iterdir()}
    assert synced[-3:] == [
        (".latest_checkpoint.txt.partial", True, False),
        (tmp_path.name, True, False),
        (tmp_path.name, True, True),
    ]
