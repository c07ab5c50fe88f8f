"""A run with `on_nonfinite = "rollback"` goes back to its last good state and leaves out the data that led there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cosmos_core.errors import RunFailed, UserError
from cosmos_core.train import Trainer
from cosmos_core.train import saves as saves_module
from cosmos_core.train.metrics import AsyncMetrics, StepMetrics
from tests.unit.logged import logged
from tests.unit.train.runs import Listening, ready, steps_of

BATCH, FAILS = 5, 7
"""Samples of a step; the step whose data hold the sample that is not finite."""
OPTIONS = (
    "trainer.on_nonfinite=rollback",
    "trainer.max_iter=10",
    "trainer.log_samples=true",
    "trainer.run_validation=false",
    "model.ema.enabled=true",
    "checkpoint.save_iter=4",
    "dataloader_train.seed=267",
    "dataloader_train.dataset.count=400",
    "dataloader_train.dataset.broken=0",
    "dataloader_train.dataset.not_finite=400",
)
SOUND = "dataloader_train.dataset.not_finite=0"


def state_of(trainer: Trainer) -> dict[str, Any]:
    """All that training goes on from."""
    tensors = {f"weight {name}": value for name, value in trainer.model.state_dict().items()}
    assert trainer.ema is not None
    tensors |= {f"average {name}": value for name, value in trainer.ema.shadows.items()}
    for number, moments in enumerate(trainer.optimizer.state.values()):
        tensors |= {f"{name} {number}": value for name, value in moments.items()}
    return {
        **{name: value.tolist() for name, value in tensors.items()},
        "rate": trainer.scheduler.get_last_lr(),
        "data": trainer.loader_state,
        "step": trainer.step,
    }


def keys_in(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


def at(event: str, step: int, do: Any) -> Listening:
    """Does it the first time that the event comes at the step."""
    done: list[bool] = []

    def listen(trainer: Trainer, heard: str) -> None:
        if (heard, trainer.step) == (event, step) and not done:
            done.append(True)
            do(trainer)

    return Listening(listen)


def expected(root: Path, back: int, kernel: str) -> Trainer:
    """A run that does the steps up to `back`, then goes on with the data after the step that fails."""
    if back:
        ready(root, *OPTIONS, kernel, SOUND, f"trainer.max_iter={back}", listening=Listening())[0].train()
    trainer, _ = ready(root, *OPTIONS, kernel, listening=Listening())
    trainer.loader.load_state([{"world": 1, "frontier": BATCH * FAILS, "aside": []}])
    trainer.train()
    return trainer


class LateMetrics(AsyncMetrics):
    """A step's figures are there when the next step has its gradients, as on an accelerator."""

    pushed = False

    def push(self, *arguments: Any) -> None:
        super().push(*arguments)
        self.pushed = True

    def flush(self) -> StepMetrics | None:
        early, self.pushed = self.pushed, False
        return None if early else super().flush()


@contextmanager
def saves_in_the_background(enabled: bool) -> Iterator[None]:
    """Inside, a checkpoint may still be written when the run goes back. A process for it takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        if enabled:
            patch.setattr(saves_module, "MIN_BACKGROUND_BYTES", 0)
        yield


class Killed(Exception):
    pass


def kill_after(back: int) -> Callable[[Trainer, str], None]:
    """In the second step after the run went back."""

    def kill(trainer: Trainer, event: str) -> None:
        if event == "after_backward" and trainer.rollbacks.count and trainer.step == back + 1:
            raise Killed

    return kill


@pytest.mark.parametrize(
    ("save_iter", "back", "late", "workers", "fused"),
    [(4, 4, False, 0, True), (3, 6, True, 1, True), (100, 0, True, 0, False)],
)
def test_everything_goes_back_but_the_place_in_the_data_also_in_a_run_that_is_killed_then(
    tmp_path: Path, save_iter: int, back: int, late: bool, workers: int, fused: bool
) -> None:
    kernel = f"optimizer.fused={str(fused).lower()}"
    settings = (f"checkpoint.save_iter={save_iter}", f"dataloader_train.num_workers={workers}", kernel)
    listening, options = Listening(), (*OPTIONS, *settings)
    trainer, rows = ready(tmp_path / "one", *options, listening=listening, recorded=True)
    trainer.metrics = LateMetrics() if late else AsyncMetrics()
    with logged("cosmos_core.train.rollback") as lines, saves_in_the_background(late and back > 0):
        assert trainer.train() == "done"
    other = expected(tmp_path / "other", back, kernel)
    assert state_of(trainer) == state_of(other)
    assert ("rolled_back", back) in listening.events
    saves = [event for event, _ in listening.events].count("checkpoint_saved")
    assert listening.saved == saves - (back > 0), "what it counted before is forgotten"
    assert rows.steps == list(range(1, 11))
    assert keys_in(trainer.paths.samples(0)) == keys_in(other.paths.samples(0))

    left_out = keys_in(trainer.paths.launch(1).left_out(1))
    assert len(left_out) == BATCH * (FAILS - back)
    assert "0" in left_out[-BATCH:]
    assert not set(left_out) & set(keys_in(trainer.paths.samples(0)))
    (told,) = lines
    assert told.startswith(
        f"step 7: loss nan, gradient norm nan; back to step {back} (rollback 1 of 3); the data go on"
    )
    assert "\n  rank 0, micro-batch 0, loss nan, samples " in told
    record = yaml.safe_load(trainer.paths.launch(1).launch_info.read_text())["rollbacks"]["1"]
    assert (record["from"], record["to"], record["samples"]) == (7, back, len(left_out))

    cut, _ = ready(tmp_path / "cut", *options, "dataloader_train.num_workers=1", listening=Listening(kill_after(back)))
    with pytest.raises(Killed), saves_in_the_background(late and back > 0):
        cut.train()
    resumed, more = ready(tmp_path / "cut", *options)
    assert (resumed.step, resumed.rollbacks.count) == (back, 1)
    resumed.train()
    assert state_of(resumed) == state_of(trainer), "a killed run leaves out the same"
    assert more.steps == list(range(back + 1, 11)), "without meeting the step again"


@pytest.mark.parametrize(("save_iter", "back"), [(4, 4), (100, 0)])
def test_random_numbers_and_callbacks_go_back_too(tmp_path: Path, save_iter: int, back: int) -> None:
    numbers: list[float] = []

    def draw(trainer: Trainer, event: str) -> None:
        if event == "step_start":
            numbers.append(torch.rand(()).item())
            listening.saved += 100

    options, listening = (*OPTIONS, f"checkpoint.save_iter={save_iter}", "trainer.max_iter=7"), Listening(draw)
    ready(tmp_path, *options, listening=listening)[0].train()
    assert listening.saved // 100 == FAILS
    assert len(numbers) == FAILS + FAILS - back
    assert numbers[FAILS:] == numbers[back:FAILS], "the steps after the one it went back to, twice"


def test_what_a_warm_start_lacks_is_told_once_not_again_by_a_rollback_to_the_start(tmp_path: Path) -> None:
    base, _ = ready(tmp_path / "base", SOUND, "trainer.max_iter=1", "trainer.run_validation=false")
    base.train()
    warm = (f"checkpoint.load_path={base.paths.iteration(1)}/model", 'checkpoint.keys_to_skip_loading=["net.head"]')
    with logged("cosmos_core") as lines:
        trainer, _ = ready(tmp_path, *OPTIONS, *warm, "checkpoint.save_iter=100", "trainer.max_iter=7")
        trainer.train()
    assert trainer.rollbacks.count == 1
    assert sum("not loaded from the checkpoint" in line for line in lines) == 1, lines


def test_after_so_many_times_the_run_ends_and_says_so_again_when_it_is_repeated(tmp_path: Path) -> None:
    options = (*OPTIONS, "trainer.max_rollbacks=2", "dataloader_train.dataset.not_finite=1")
    trainer, _ = ready(tmp_path, *options, SOUND, "trainer.max_iter=4")
    trainer.train()
    for _ in range(2):
        trainer, _ = ready(tmp_path, *options)
        with pytest.raises(RunFailed, match="step 5: loss nan, .* last good checkpoint stays") as failed:
            trainer.train()
        assert "the run went back 2 times before" in failed.value.problems[-1].message
        assert "samples" in failed.value.problems[0].message
        assert (trainer.rollbacks.count, steps_of(trainer)) == (2, [4])
        assert trainer.loader_state["frontier"] == BATCH * 7
    trainer, rows = ready(tmp_path, *options, SOUND, "trainer.max_rollbacks=3")
    assert trainer.train() == "done"
    assert rows.steps == [5, 6, 7, 8, 9, 10]


def test_weights_that_an_update_spoiled_go_back_as_well(tmp_path: Path) -> None:
    def spoil(trainer: Trainer) -> None:
        next(trainer.model.parameters()).detach().fill_(float("nan"))

    for step, of_batches in ((8, 8), (6, 7)):  # Found by the save that is due, and by the next step.
        trainer, _ = ready(tmp_path / str(step), *OPTIONS, SOUND, listening=at("step_end", step, spoil))
        assert trainer.train() == "done"
        assert trainer.rollbacks.count == 1
        assert trainer.loader_state["frontier"] == BATCH * (of_batches + 6)
        assert all(torch.isfinite(value).all() for value in trainer.model.parameters())


def test_a_damaged_checkpoint_is_named_instead(tmp_path: Path) -> None:
    def damage(trainer: Trainer) -> None:
        (trainer.paths.iteration(4) / "model/__0_0.distcp").write_bytes(b"")

    trainer, _ = ready(tmp_path, *OPTIONS, listening=at("step_end", 5, damage))
    with pytest.raises(UserError, match="iter_000000004 is damaged; the run could not go back to it"):
        trainer.train()


def test_counts_and_figures_that_no_run_writes_are_refused(tmp_path: Path) -> None:
    trainer, _ = ready(tmp_path, *OPTIONS, SOUND, "trainer.max_iter=1")
    trainer.rollbacks.count = -1
    trainer.spikes.load_state([["a"]])  # type: ignore[list-item]
    trainer.save()
    with pytest.raises(UserError, match="nothing was started") as error:
        ready(tmp_path, *OPTIONS)
    assert [problem.key for problem in error.value.problems] == ["rollbacks", "spikes"]
