"""`checkpoint.include_frozen`: frozen weights that are left to a base are followed wherever a checkpoint is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from attrs import evolve
from click.testing import CliRunner

from cosmos_core.checkpoint import FrozenBase, stored_keys, trained_weights
from cosmos_core.checkpoint.pack import pack
from cosmos_core.checkpoint.retention import remove_old
from cosmos_core.cli.commands.runs import remove
from cosmos_core.config import OptimizerConfig, RunConfig
from cosmos_core.errors import UserError
from cosmos_core.plan import RunPaths
from cosmos_core.plan.base_users import base_users
from cosmos_core.plan.make import make_plan
from cosmos_core.plan.manifest import verify
from cosmos_core.plan.plan import WeightSource
from cosmos_core.plan.preflight import preflight
from cosmos_core.train import Trainer
from tests.fixtures.reading import tensors
from tests.unit.train.adapted import PLUGINS, config_of, ready, weights

FROZEN = {f"blocks.{block}.up.{kind}" for block in (0, 1) for kind in ("weight", "bias")}
HALF, END = 2, 4


def part(*, include: bool | None, steps: int = END, keys: tuple[str, ...] = ("embed", "down", "head")) -> RunConfig:
    """A run that trains these parts, and saves after `HALF` steps and at its end."""
    config = config_of(adapters=False)
    return evolve(
        config,
        optimizer=OptimizerConfig(lr=1e-2, keys_to_select=keys),
        trainer=evolve(config.trainer, max_iter=steps),
        checkpoint=evolve(config.checkpoint, include_frozen=include, save_iter=HALF),
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and from it a run that saves all weights and one that leaves the frozen ones to the base."""
    place = tmp_path_factory.mktemp("frozen")
    base = ready(place / "base", config_of(adapters=False, seed=1))
    base.train()
    for name, include in (("whole", True), ("part", False)):
        source = WeightSource(kind="warm", path=base.paths.iteration(3))
        ready(place / name, part(include=include), source).train()
    return place


@pytest.fixture
def copied(place: Path, tmp_path: Path) -> Path:
    """A copy of them, whose base may be damaged."""
    copy = tmp_path / "copy"
    shutil.copytree(place, copy)
    for record in copy.rglob("frozen_base.json"):
        record.write_text(record.read_text().replace(str(place), str(copy)))
    return copy


def iteration(place: Path, name: str, step: int = END) -> Path:
    return place / name / f"checkpoints/iter_{step:09d}"


def test_a_checkpoint_lacks_the_frozen_weights_alone_and_is_smaller(place: Path) -> None:
    keys = {name: stored_keys(iteration(place, name) / "model") for name in ("whole", "part")}
    assert keys["whole"] - keys["part"] == {f"net.{name}" for name in FROZEN}
    assert keys["part"] < keys["whole"]
    own, all_of_it = tensors(iteration(place, "part") / "model"), tensors(iteration(place, "whole") / "model")
    assert all(torch.equal(own[name], all_of_it[name]) for name in own)
    sizes = [sum(file.stat().st_size for file in iteration(place, name).rglob("*.distcp")) for name in keys]
    assert sizes[1] < sizes[0] - 4 * 2 * 16 * 32 * 2
    assert verify(iteration(place, "part")) == []


@pytest.mark.parametrize("name", ["whole", "part"])
@pytest.mark.parametrize("include", [True, False])
def test_a_run_resumes_with_either_value_and_ends_bit_for_bit_as_one_that_was_not_stopped(
    place: Path, tmp_path: Path, name: str, include: bool
) -> None:
    shutil.copytree(place / name, tmp_path / "run")
    source = WeightSource(kind="resume", path=iteration(tmp_path, "run", HALF))
    trainer = ready(tmp_path / "run", part(include=include), source)
    trainer.train()
    end = tensors(iteration(place, "whole") / "model")
    stored = tensors(iteration(tmp_path, "run") / "model")
    assert end.keys() - stored.keys() == (set() if include else {f"net.{key}" for key in FROZEN})
    assert all(torch.equal(end[key], value) for key, value in {**stored, **live(trainer)}.items())


def live(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {f"net.{name}": value for name, value in trainer.model.state_dict().items()}


def test_what_an_export_reads_is_the_same_and_in_the_same_order(place: Path) -> None:
    whole, partial = (trained_weights(iteration(place, name), "ema") for name in ("whole", "part"))
    assert list(whole.infos.items()) == list(partial.infos.items())
    values = [source.read(list(whole.infos)) for source in (whole, partial)]
    assert all(torch.equal(values[0][name], values[1][name]) for name in whole.infos)


def test_a_packed_checkpoint_holds_what_one_with_frozen_weights_does_and_needs_no_base(copied: Path) -> None:
    packed = copied / "part/packed/iter_000000002"
    facts = pack(iteration(copied, "part", HALF), packed)
    assert facts["of the base"] == 4, "a number, as JSON gives it"
    assert verify(packed) == []
    shutil.rmtree(copied / "base")
    for component in ("model", "optim"):
        expected, found = (tensors(folder / component) for folder in (iteration(copied, "whole", HALF), packed))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in found)
    trainer = ready(copied / "on", part(include=True), WeightSource(kind="resume", path=packed))
    trainer.train()
    end = tensors(iteration(copied, "whole") / "model")
    assert all(torch.equal(end[name], value) for name, value in live(trainer).items())
    with pytest.raises(UserError, match="base is missing"):
        ready(copied / "off", part(include=False), WeightSource(kind="resume", path=packed))
    with pytest.raises(UserError, match="exists already"):
        pack(packed, packed)


def test_a_base_that_is_gone_is_named_and_may_be_given_again(copied: Path) -> None:
    checkpoint = iteration(copied, "part")
    (copied / "base").rename(copied / "moved")
    loads = (
        lambda: ready(copied / "part", part(include=None), WeightSource(kind="resume", path=checkpoint)),
        lambda: ready(copied / "new", part(include=None), WeightSource(kind="warm", path=checkpoint)),
        lambda: trained_weights(checkpoint, ""),
        lambda: pack(checkpoint, copied / "out"),
    )
    for load in loads:
        with pytest.raises(UserError, match="base is missing") as caught:
            load()
        problem = caught.value.problems[0]
        assert f"no such folder: {iteration(copied, 'base', 3)}" in problem.message
        assert problem.file == str(checkpoint / "frozen_base.json")
        assert f"cosmos checkpoints pack {checkpoint} --base DIR" in problem.hint
    facts = [
        pack(checkpoint, copied / name, given)
        for name, given in (("by_step", iteration(copied, "moved", 3)), ("out", copied / "moved"))
    ]
    assert [fact["base"] for fact in facts] == [str(iteration(copied, "moved", 3) / "model")] * 2, "a run has it too"
    packed = tensors(copied / "out/model")
    config, source = part(include=None), WeightSource(kind="resume", path=checkpoint)
    for load_path in (copied / "moved", iteration(copied, "moved", 3)):
        given = evolve(config, checkpoint=evolve(config.checkpoint, load_path=str(load_path)))
        again = ready(copied / "part", given, source)
        assert again.base is not None
        assert again.base.folder == str(iteration(copied, "moved", 3) / "model"), "which the next checkpoints name"
        assert all(torch.equal(packed[name], value) for name, value in live(again).items())
    other = evolve(config, checkpoint=evolve(config.checkpoint, load_path=str(iteration(copied, "whole"))))
    with pytest.raises(UserError, match="base is missing"):
        ready(copied / "part", other, source)
    record = checkpoint / "frozen_base.json"
    record.write_text(record.read_text().replace(str(copied / "base"), str(copied / "moved")))
    again = ready(copied / "part", config, source)
    assert all(torch.equal(packed[name], value) for name, value in live(again).items())


def test_a_base_that_changed_is_refused_and_nothing_is_written(copied: Path) -> None:
    data = next(iteration(copied, "base", 3).glob("model/*.distcp"))
    data.write_bytes(data.read_bytes()[::-1])
    checkpoint = iteration(copied, "part")
    for load in (lambda: trained_weights(checkpoint, ""), lambda: pack(checkpoint, copied / "out")):
        with pytest.raises(UserError, match="base has changed"):
            load()
    assert not list(copied.glob("*out*"))


def test_a_damaged_checkpoint_is_not_packed(copied: Path) -> None:
    checkpoint = iteration(copied, "part")
    data = next(checkpoint.glob("optim/*.distcp"))
    data.write_bytes(data.read_bytes()[::-1])
    with pytest.raises(UserError, match="is damaged; nothing was packed"):
        pack(checkpoint, copied / "out")


def test_a_checkpoint_that_its_run_removes_meanwhile_is_told_so_and_nothing_stays(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = iteration(copied, "part")

    def removed_meanwhile(folder: Path) -> list[str]:
        shutil.rmtree(folder / "model")
        folder.rename(folder.with_name(".removed"))
        return []

    monkeypatch.setattr("cosmos_core.checkpoint.pack.verify", removed_meanwhile)
    with pytest.raises(UserError, match="the checkpoint is gone; nothing was packed") as caught:
        pack(checkpoint, copied / "out")
    assert "checkpoint.keep_last" in caught.value.problems[0].hint
    assert not list(copied.glob("*out*"))
    assert not list(copied.glob(".*out*"))


def test_a_run_that_starts_from_such_a_checkpoint_needs_no_base_but_the_first(place: Path, tmp_path: Path) -> None:
    """Of its frozen weights those that were trained before are saved, the others are left to the first base."""
    start = WeightSource(kind="warm", path=iteration(place, "part"))
    trainer = ready(tmp_path / "next", part(include=False, steps=HALF, keys=("head",)), start)
    assert {f"net.{name}": value for name, value in weights(trainer).items()} == {
        name: value.flatten().tolist()
        for name, value in tensors(iteration(place, "whole") / "model").items()
        if name.startswith("net.")
    }
    trainer.train()
    record = FrozenBase.read(trainer.paths.iteration(HALF))
    assert record is not None
    assert record.folder == str(iteration(place, "base", 3) / "model")
    assert record.lacking.keys() == FROZEN
    kept = tensors(trainer.paths.iteration(HALF) / "model")
    assert "net.blocks.0.down.weight" in kept
    resume = WeightSource(kind="resume", path=trainer.paths.iteration(HALF))
    assert weights(ready(tmp_path / "next", trainer.config, resume)) == weights(trainer)


def test_a_checkpoint_that_is_the_base_of_another_run_stays_as_long_as_that_needs_it(copied: Path) -> None:
    """Whatever its own run keeps, and where that is to be deleted."""
    base, source = iteration(copied, "base", 3), WeightSource(kind="warm", path=iteration(copied, "base", 3))
    (copied / "user").mkdir()
    (copied / "base" / "launches").mkdir()
    user = ready(copied / "user", part(include=False, steps=HALF), source)
    assert base_users(base) == [copied / "user"]
    user.train()
    shutil.copytree(base, iteration(copied, "base", 4))
    few = evolve(user.config.checkpoint, keep_last=1)
    assert remove_old(RunPaths(copied / "base"), few, newest=4) == []
    with pytest.raises(UserError, match="nothing was removed") as refusal:
        CliRunner().invoke(remove, [str(copied / "base"), "--yes"], catch_exceptions=False)
    assert str(copied / "user") in refusal.value.problems[0].message

    resume = WeightSource(kind="resume", path=user.paths.iteration(HALF))
    whole = part(include=True, steps=END)
    ready(copied / "user", evolve(whole, checkpoint=evolve(whole.checkpoint, keep_last=1)), resume).train()
    assert remove_old(RunPaths(copied / "base"), few, newest=4) == [base]


def test_a_run_without_a_base_has_nothing_to_leave_weights_to(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        preflight(make_plan(part(include=False), output_root=tmp_path, world=1, distributions={}), PLUGINS)
    assert [problem.key for problem in caught.value.problems] == ["checkpoint.include_frozen"]


def test_a_checkpoint_that_does_not_name_its_base_cannot_go_on_without_its_frozen_weights(copied: Path) -> None:
    """As older versions wrote them."""
    checkpoint = iteration(copied, "whole")
    (checkpoint / "frozen_base.json").unlink()
    source = WeightSource(kind="resume", path=checkpoint)
    assert ready(copied / "whole", part(include=None), source).base is None
    with pytest.raises(UserError) as caught:
        ready(copied / "whole", part(include=False), source)
    assert caught.value.problems[0].key == "checkpoint.include_frozen"


def test_a_run_with_nothing_frozen_notes_no_base(place: Path, tmp_path: Path) -> None:
    start = WeightSource(kind="warm", path=iteration(place, "base", 3))
    trainer = ready(tmp_path, part(include=False, steps=1, keys=()), start)
    trainer.train()
    assert FrozenBase.read(trainer.paths.iteration(1)) is None
    assert len(stored_keys(trainer.paths.iteration(1) / "model")) == 2 * len(trainer.model.state_dict())
