"""Packs that a thread draws and collates while the model computes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cosmos_core.data import Item, MicroBatch
from cosmos_core.errors import UserError
from cosmos_core.train import Trainer
from cosmos_core.train.ahead import drawn_ahead
from cosmos_core.train.parts import collated
from tests.unit.train.runs import Listening, ready


class Batch(list[str]):
    """A list that can be watched."""


FAMILY: Any = SimpleNamespace(collate=lambda items: Batch(item.value for item in items))


def drawn(source: Packs, ahead: int, total: int = 90) -> Generator[MicroBatch]:
    """As of a run: none is read that no step uses."""
    return drawn_ahead((collated(pack, FAMILY, 1) for pack in islice(source, total)), ahead)


class Packs:
    """Two samples each; remembers how many were drawn, and in which threads."""

    def __init__(self, bad: int = -1) -> None:
        self.bad = bad
        self.threads: list[threading.Thread] = []
        self.drawn = threading.Condition()
        self.closed_in: threading.Thread | None = None

    def __iter__(self) -> Iterator[MicroBatch]:
        try:
            for number in range(100):
                with self.drawn:
                    self.threads.append(threading.current_thread())
                    self.drawn.notify_all()
                if number == self.bad:
                    raise UserError("not today")
                yield MicroBatch(
                    [Item(2 * number + place, f"{number}.{place}", "k", "d") for place in (0, 1)], {"at": number}
                )
        finally:
            self.closed_in = threading.current_thread()

    def wait(self, count: int) -> None:
        """Until as many were drawn."""
        with self.drawn:
            assert self.drawn.wait_for(lambda: len(self.threads) >= count, timeout=20)


@pytest.mark.parametrize("ahead", [1, 3])
def test_packs_come_in_order_each_with_its_own_state_and_no_samples(ahead: int) -> None:
    source = Packs()
    packs = drawn(source, ahead, total=6)
    for number, pack in enumerate(packs):
        source.wait(min(number + 1 + ahead, 6))
        (part,) = pack.parts
        assert (part.batch, pack.state) == ([f"{number}.0", f"{number}.1"], {"at": number})
        assert [(item.position, item.value, item.key, item.dataset) for item in pack.items] == [
            (2 * number, None, "k", "d"),
            (2 * number + 1, None, "k", "d"),
        ]
    assert number == 5
    assert len(source.threads) == 6, "none is read that no step uses"
    assert source.threads[0] is threading.current_thread(), "which starts the workers"
    assert all(thread is not threading.current_thread() for thread in source.threads[1:])


def test_a_batch_that_the_step_lets_go_is_free_before_the_next_one_is_asked_for() -> None:
    packs = drawn(Packs(), 1, total=2)
    for _ in range(2):
        taken = weakref.ref(next(packs).parts[0].batch)
        assert taken() is None


def test_an_error_comes_with_its_pack() -> None:
    packs = drawn(Packs(bad=2), 3, total=6)
    assert [pack.state["at"] for pack in islice(packs, 2)] == [0, 1]
    with pytest.raises(UserError, match="not today"):
        next(packs)


def test_closing_ends_the_source_in_its_thread_whose_workers_end_with_it() -> None:
    source = Packs()
    packs = drawn(source, 2)
    next(packs)
    source.wait(2)
    before = len(source.threads)
    packs.close()
    assert source.closed_in is source.threads[1]
    assert before <= len(source.threads) <= 3
    assert not source.threads[1].is_alive()


def test_a_run_that_stops_with_packs_drawn_ahead_resumes_exactly(tmp_path: Path) -> None:
    """Some samples of the toy data cannot be read, so that packs and positions differ."""
    several = ("trainer.grad_accum_iter=2", "trainer.run_validation=false")

    def stop(trainer: Trainer, event: str) -> None:
        trainer.stop_requested = (event, trainer.step) == ("step_end", 3)

    whole, expected = ready(tmp_path / "whole", *several)
    assert whole.train() == "done"
    first, begun = ready(tmp_path / "cut", *several, "dataloader_train.num_workers=2", listening=Listening(stop))
    assert first.train() == "stopped"
    second, gone_on = ready(tmp_path / "cut", *several, "dataloader_train.num_workers=1", listening=Listening())
    assert (second.step, second.train()) == (3, "done")
    assert [row["loss"] for row in (*begun, *gone_on)] == [row["loss"] for row in expected]
    for loader in (first.loader, second.loader, whole.loader):
        assert loader.skipped
    assert second.loader_state == whole.loader_state
