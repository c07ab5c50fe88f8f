"""A run settles its loader workers by its cores and, on known GPUs, by what keeps up; a plan traces layers once."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from cosmos_core.builtin.tiny.family import TinyFamily
from cosmos_core.config.run import RunConfig, TypicalSample
from cosmos_core.data.source import MapSource
from cosmos_core.plan.costs import Estimate
from cosmos_core.plan.gpus import machine_of
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.train.automatic import settled
from cosmos_core.train.costs import case_of
from tests.unit.logged import logged


def test_workers_are_settled_and_told_by_what_keeps_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    config = load("hello", ("dataloader_train.num_workers=auto",), plugins=PluginManager.discover())
    own = TinyFamily.estimate(config)
    busy = evolve(own, width=4096, utilisation=(0.5, 0.5), flops=989e12 / 2, core_seconds=2.0)

    def workers(gpu: str | None) -> tuple[int | str, str]:
        machine = None if gpu is None else machine_of(gpu)
        with logged("cosmos_core.train.automatic") as lines:
            return settled(config, TinyFamily, machine).dataloader_train.num_workers, lines[-1]

    assert workers(None) == (15, "loader workers: 15, by num_workers = auto (this rank's share of the cores)")
    monkeypatch.setattr(TinyFamily, "estimate", classmethod(lambda cls, *rest: busy))
    number, line = workers("H100")
    assert (number, line) == (3, "loader workers: 3, by num_workers = auto (3 keep up)")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(3)))
    assert workers("H100")[1].endswith("(3 keep up; this rank's share of the cores allows fewer)")


def test_what_was_set_is_not_settled() -> None:
    config = load("hello", plugins=PluginManager.discover())
    assert settled(config, TinyFamily, machine_of("H100")) is config


class Pictures(MapSource):
    def __len__(self) -> int:
        return 64

    def get(self, index: int, random: np.random.Generator) -> Any:
        raise AssertionError("only its metadata is read")

    def dimensions(self, index: int) -> TypicalSample:
        return TypicalSample(frames=1, height=16, width=16 + index, text=100)


def test_memory_is_of_the_largest_pack_times_are_of_usual_ones_and_layers_are_traced_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load("hello", ("model.compile.enabled=true",), plugins=PluginManager.discover())
    own = TinyFamily.estimate(config)
    traced: list[int] = []
    calls: list[TypicalSample] = []

    def estimate(cls: Any, config: RunConfig, sample: TypicalSample, memory: float | None) -> Estimate:
        calls.append(sample)
        if config.model.compile.enabled:
            traced.append(sample.width)
        width, enabled = float(sample.width), config.model.compile.enabled
        return evolve(own, samples=16.0, flops=width, loss=width, utilisation=(0.5, 0.6) if enabled else (0.1, 0.2))

    monkeypatch.setattr(TinyFamily, "estimate", classmethod(estimate))
    case = case_of(config, TinyFamily, 1, data=Pictures())
    assert case is not None
    assert case.estimate.flops < case.estimate.loss == traced[0]
    assert len(traced) == 1
    assert len(calls) == 2, "texts are all as long, so that there is one largest pack"
    assert case.estimate.utilisation == (0.5, 0.6)


def test_memory_is_of_packs_of_short_texts_where_these_hold_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of clips under a limit of tokens, whose texts are not trained."""

    class Captioned(Pictures):
        def dimensions(self, index: int) -> TypicalSample:
            return TypicalSample(frames=1, height=16, width=16, text=100 * (index % 10))

    config = load("hello", plugins=PluginManager.discover())
    own = TinyFamily.estimate(config)
    calls: list[TypicalSample] = []

    def estimate(cls: Any, config: RunConfig, sample: TypicalSample, memory: float | None) -> Estimate:
        calls.append(sample)
        count = 10_000 / (500 + sample.text)
        return evolve(own, samples=count, kept={mode: {"activations": count} for mode in own.kept})

    monkeypatch.setattr(TinyFamily, "estimate", classmethod(estimate))
    case = case_of(config, TinyFamily, 1, data=Captioned())
    assert case is not None
    assert case.estimate.samples == pytest.approx(10_000 / 950, rel=0.05)
    assert len(calls) == len(set(calls)) == 3, "the usual sample, one with a long text and one with a short one"
    fewest = 450 * (1 - 1 / case.estimate.samples**0.5)
    assert case.estimate.kept["none"]["activations"] == pytest.approx(10_000 / (500 + fewest), rel=0.02)


def test_a_family_that_knows_no_costs_of_compiled_layers_is_not_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load("hello", ("model.compile.enabled=true",), plugins=PluginManager.discover())
    own = TinyFamily.estimate(config)
    estimate = classmethod(lambda cls, config, *rest: None if config.model.compile.enabled else own)
    monkeypatch.setattr(TinyFamily, "estimate", estimate)
    assert case_of(config, TinyFamily, 1, data=Pictures()) is None
