"""A run settles its loader workers by its cores and, on known GPUs, by what keeps up with them."""

from __future__ import annotations

import os

import pytest
from attrs import evolve

from cosmos_core.builtin.tiny.family import TinyFamily
from cosmos_core.plan.gpus import machine_of
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.train.automatic import settled
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
