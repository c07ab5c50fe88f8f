"""The loop of a run: what it logs, when it validates and saves, how it ends, and that it goes on exactly."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cosmos_core.checkpoint.save import save_checkpoint
from cosmos_core.errors import RunFailed, UserError
from cosmos_core.plan.trained import trained_by
from cosmos_core.train import Trainer
from cosmos_core.train import trainer as trainer_module
from cosmos_core.train.agreement import CollectiveError
from tests.unit.logged import logged
from tests.unit.train.runs import Listening, ready, steps_of


def state_of(trainer: Trainer) -> dict[str, Any]:
    """All that training goes on from, on its own."""
    tensors = {f"weight {name}": value.detach().clone() for name, value in trainer.model.state_dict().items()}
    if trainer.ema is not None:
        tensors |= {f"average {name}": value.clone() for name, value in trainer.ema.shadows.items()}
    for number, moments in enumerate(trainer.optimizer.state.values()):
        tensors |= {f"{name} {number}": value.clone() for name, value in moments.items()}
    return {
        **{name: value.tolist() for name, value in tensors.items()},
        "rate": trainer.scheduler.get_last_lr(),
        "data": trainer.loader_state,
        "step": trainer.step,
    }


UNEQUAL = {"seconds", "data_wait", "memory_gib"}
"""What differs between two equal runs."""


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in UNEQUAL} for row in rows]


def test_a_run_logs_validates_and_saves_at_its_steps(tmp_path: Path) -> None:
    listening = Listening()
    trainer, rows = ready(tmp_path, "trainer.max_iter=7", listening=listening)
    assert trainer.train() == "done"
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 8))
    assert [row["step"] for row in rows if "val_loss" in row] == [0, 3, 6, 7]
    assert steps_of(trainer) == [2, 4, 6, 7]
    assert trainer.paths.checkpoints.joinpath("latest_checkpoint.txt").read_text() == "iter_000000007\n"
    step = ["step_start", "after_backward", "before_optimizer_step", "step_end"]
    expected = ["train_start", *step, *step, "checkpoint_saved", *step, *step, "checkpoint_saved", *step, *step]
    expected += ["checkpoint_saved", *step, "checkpoint_saved", "train_end"]
    assert [event for event, _ in listening.events] == expected
    assert [at for event, at in listening.events if event == "step_end"] == list(range(1, 8))


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (("trainer.run_validation=false",), []),
        (("trainer.run_validation_on_start=false",), [3, 6]),
        (("trainer.validation_iter=4",), [0, 4, 6]),
    ],
)
def test_validation_comes_as_configured(tmp_path: Path, overrides: tuple[str, ...], steps: list[int]) -> None:
    trainer, rows = ready(tmp_path, *overrides)
    trainer.train()
    assert [row["step"] for row in rows if "val_loss" in row] == steps


def test_a_resumed_run_does_not_validate_its_start_again(tmp_path: Path) -> None:
    ready(tmp_path, "trainer.max_iter=2")[0].train()
    trainer, rows = ready(tmp_path)
    trainer.train()
    assert [row["step"] for row in rows if "val_loss" in row] == [3, 6]


@pytest.mark.parametrize("average", ["true", "false"])
def test_a_run_stopped_at_any_step_goes_on_exactly(tmp_path: Path, average: str) -> None:
    options = (f"model.ema.enabled={average}", "trainer.grad_accum_iter=2")
    whole, expected = ready(tmp_path / "whole", *options)
    whole.train()
    for at in (1, 4):

        def stop(trainer: Trainer, event: str, at: int = at) -> None:
            trainer.stop_requested = trainer.step == at

        first, rows = ready(tmp_path / str(at), *options, listening=Listening(stop))
        assert first.train() == "stopped"
        assert (first.step, steps_of(first)[-1]) == (at, at)
        saved = state_of(first)
        second, more = ready(tmp_path / str(at), *options, listening=Listening())
        assert state_of(second) == saved
        assert second.saved_step == at
        assert second.train() == "done"
        assert figures([*rows, *more]) == figures(expected)
        assert state_of(second) == state_of(whole)


def test_a_launch_becomes_the_one_that_trains_the_run_after_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: its record is copied into the run directory then, and its number is in the checkpoints that it saves."""
    published: list[str] = []
    compiled = count(3.0)  # Seconds, of which those before training are the plan's.
    monkeypatch.setattr(trainer_module, "compiling_seconds", lambda config: next(compiled))

    def note(trainer: Trainer, event: str) -> None:
        if event == "step_start":
            config = trainer.paths.config_toml
            published.append(config.read_text() if config.is_file() else "")
            config.unlink(missing_ok=True)

    first, _ = ready(tmp_path, "trainer.max_iter=4", listening=Listening(note), recorded=True)
    first.train()
    second, _ = ready(tmp_path, listening=Listening(note), recorded=True)
    second.train()
    configs = [first.paths.launch(number).config_toml for number in (1, 2)]
    assert published == ["", configs[0].read_text(), "", "", "", configs[1].read_text()]
    trained = [trained_by(first.paths.iteration(step)) for step in (4, 6)]
    assert [found and found.config for found in trained] == configs
    for trainer, number in ((first, 1), (second, 2)):
        record = yaml.safe_load(trainer.paths.launch(number).launch_info.read_text())
        assert list(record["startup_seconds"])[-3:] == ["callbacks", "compiling", "first step"]
        assert record["startup_seconds"]["compiling"] == 1.0


def test_only_the_last_micro_batch_of_a_step_reduces_gradients_over_replicas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    required: list[bool] = []
    monkeypatch.setattr(trainer_module, "set_requires_all_reduce", lambda model, value: required.append(value))
    ready(tmp_path, "trainer.grad_accum_iter=3", "trainer.max_iter=2")[0].train()
    assert required == [False, False, True] * 2


def test_a_request_to_stop_at_the_last_step_is_a_run_that_is_done(tmp_path: Path) -> None:
    def stop(trainer: Trainer, event: str) -> None:
        trainer.stop_requested = trainer.step == 6

    trainer, _ = ready(tmp_path, listening=Listening(stop))
    assert trainer.train() == "done"
    assert ready(tmp_path)[0].train() == "done"


def test_callbacks_and_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    listening, again = Listening(), Listening()
    first, _ = ready(tmp_path, listening=listening)
    first.train()
    expected = torch.rand(3)
    second, _ = ready(tmp_path, listening=again)
    assert again.saved == listening.saved - 1
    # Validation and saving draw nothing, so the state is still that of the save.
    assert torch.equal(torch.rand(3), expected)
    assert second.step == 6


class Nested(Listening):
    """Keeps a dictionary and a list of tensors, which a checkpoint holds entry by entry."""

    def __init__(self, counts: dict[str, int]) -> None:
        super().__init__()
        self.kept: dict[str, Any] = {"counts": counts, "parts": [torch.zeros(2), torch.zeros(1)]}

    def state_dict(self) -> dict[str, Any]:
        return self.kept

    def load_state_dict(self, values: dict[str, Any]) -> None:
        self.kept = values


def test_nested_values_of_a_callback_come_back_and_what_has_no_place_is_named(tmp_path: Path) -> None:
    first = Nested({"a": 1, "b": 2})
    first.kept["parts"][0] += 3
    ready(tmp_path, listening=first)[0].train()
    again = Nested({"a": 0})
    with logged("cosmos_core.train.checkpointing") as lines:
        ready(tmp_path, listening=again)
    assert again.kept["counts"] == {"a": 1}
    assert [part.tolist() for part in again.kept["parts"]] == [[3, 3], [0]]
    assert lines == ["callback 'listening' does not get back what it has no place for: callbacks.listening.counts.b"]
    other = Nested({"c": 0})
    with logged("cosmos_core.train.checkpointing") as lines:
        ready(tmp_path, listening=other)
    assert other.kept["counts"] == {"c": 0}
    assert len(lines) == 1


def test_a_callback_that_the_checkpoint_does_not_know_starts_as_it_is(tmp_path: Path) -> None:
    ready(tmp_path)[0].train()
    listening = Listening()
    trainer, _ = ready(tmp_path, listening=listening)
    assert (trainer.step, listening.saved) == (6, 0)


@pytest.mark.parametrize("state", [None, {"format": 1, "read": 5}], ids=["none", "of another program"])
def test_without_a_loaders_state_the_data_start_over_and_the_log_says_so(
    tmp_path: Path, state: dict[str, int] | None
) -> None:
    first, _ = ready(tmp_path)
    begun = first.loader.state()
    first.train()
    file = first.paths.iteration(6) / "dataloader/rank_0.pkl"
    file.unlink()
    (first.paths.iteration(6) / "manifest.json").unlink()
    if state is not None:
        torch.save(state, file)
    with logged("cosmos_core.train") as lines:
        second, _ = ready(tmp_path)
    assert (second.step, second.loader_state) == (6, begun)
    assert [line.partition(" does ")[2] for line in lines] == [
        "not say how far the data was read; it starts from the beginning"
    ]


def test_a_trainer_state_of_the_next_format_is_refused(tmp_path: Path) -> None:
    trainer, _ = ready(tmp_path)
    state = trainer.state_dict()
    assert state["trainer"]["format"] == 1
    state["trainer"]["format"] = 2
    save_checkpoint(trainer.paths.checkpoints, 1, state, trainer.loader_state, trainer.mesh)
    with pytest.raises(UserError, match="newer version"):
        ready(tmp_path)


def test_weights_that_are_not_finite_do_not_start_a_run(tmp_path: Path) -> None:
    trainer, _ = ready(tmp_path)
    next(trainer.model.parameters()).detach()[0] = float("nan")
    save_checkpoint(trainer.paths.checkpoints, 1, trainer.state_dict(), trainer.loader_state, trainer.mesh)
    with pytest.raises(UserError, match="not finite; nothing was started"):
        ready(tmp_path)


class Broken(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "saved"), [(CollectiveError("bad data"), [2, 3]), (Broken("no"), [2]), (RunFailed("no"), [2])]
)
def test_a_failure_saves_only_what_all_ranks_know_to_be_good(
    tmp_path: Path, error: Exception, saved: list[int]
) -> None:
    def fail(trainer: Trainer, event: str) -> None:
        if (event, trainer.step) == ("step_start", 3):
            raise error

    listening = Listening(fail)
    trainer, rows = ready(tmp_path, listening=listening)
    with pytest.raises(type(error)):
        trainer.train()
    assert steps_of(trainer) == saved
    assert [event for event, _ in listening.events][-1] == "failed"
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]


def test_a_collective_failure_right_after_a_save_does_not_save_again(tmp_path: Path) -> None:
    def fail(trainer: Trainer, event: str) -> None:
        if (event, trainer.step) == ("step_start", 2):
            raise CollectiveError("bad data")

    listening = Listening(fail)
    trainer, _ = ready(tmp_path, listening=listening)
    with pytest.raises(CollectiveError):
        trainer.train()
    assert [event for event, _ in listening.events].count("checkpoint_saved") == 1


def test_a_skipped_step_puts_the_checkpoint_off_until_one_is_good(tmp_path: Path) -> None:
    def spoil(trainer: Trainer, event: str) -> None:
        if event == "after_backward" and trainer.step in {1, 2}:
            for parameter in trainer.model.parameters():
                assert parameter.grad is not None
                parameter.grad.fill_(float("nan"))

    trainer, rows = ready(tmp_path, listening=Listening(spoil))
    assert trainer.train() == "done"
    assert steps_of(trainer) == [4, 6]
    assert [row["step"] for row in rows if row.get("grad_norm", 0) != row.get("grad_norm", 0)] == [2, 3]


def test_data_that_cannot_be_used_ends_the_run_with_a_checkpoint(tmp_path: Path) -> None:
    options = (
        "dataloader_train.dataset.broken=2",
        "dataloader_train.max_bad_sample_fraction=0.05",
        "checkpoint.save_iter=100",
    )
    trainer, _ = ready(tmp_path, *options, "dataloader_train.max_samples_per_batch=2")
    with pytest.raises(UserError, match="cannot be used"):
        trainer.train()
    assert trainer.step > 0
    assert steps_of(trainer) == [trainer.step]


def test_weights_alone_start_another_run_at_its_first_step(tmp_path: Path) -> None:
    first, _ = ready(tmp_path / "first", "model.ema.enabled=true")
    first.train()
    base = first.paths.iteration(6) / "model"
    second, rows = ready(tmp_path / "second", "model.ema.enabled=true", f"checkpoint.load_path={base}")
    assert (second.step, second.loader_state, len(second.optimizer.state)) == (0, second.loader.state(), 0)
    begun = state_of(second)
    assert {name: begun[name] for name in begun if name.startswith(("weight", "average"))} == {
        name: value for name, value in state_of(first).items() if name.startswith(("weight", "average"))
    }
    second.train()
    assert rows[1]["step"] == 1


def test_averages_start_at_the_loaded_weights_where_none_are_loaded(tmp_path: Path) -> None:
    first, _ = ready(tmp_path / "first", "model.ema.enabled=true")
    first.train()
    options = ("model.ema.enabled=true", 'checkpoint.keys_to_skip_loading=["net_ema.", "head"]')
    second, _ = ready(tmp_path / "second", *options, f"checkpoint.load_path={first.paths.iteration(6) / 'model'}")
    fresh, _ = ready(tmp_path / "fresh", "model.ema.enabled=true")
    loaded, trained, initial = (dict(one.model.named_parameters()) for one in (second, first, fresh))
    assert second.ema is not None
    for name, value in loaded.items():
        assert torch.equal(value, (initial if name.startswith("head") else trained)[name])
        assert torch.equal(second.ema.shadows[name], value)


def test_validation_judges_the_average_where_it_is_kept(tmp_path: Path) -> None:
    found = []
    for average in ("true", "false"):
        trainer, rows = ready(tmp_path / average, f"model.ema.enabled={average}")
        trainer.train()
        found.append([row["val_loss"] for row in rows if "val_loss" in row])
    assert found[0][0] == found[1][0]
    assert found[0][-1] != found[1][-1]


def test_no_step_that_could_be_used_is_a_failed_run(tmp_path: Path) -> None:
    def spoil(trainer: Trainer, event: str) -> None:
        if event == "after_backward":
            next(trainer.model.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]

    trainer, _ = ready(tmp_path, "trainer.max_consecutive_nan=50", listening=Listening(spoil))
    with pytest.raises(RunFailed, match="none of the 6 steps"):
        trainer.train()
    assert steps_of(trainer) == []
