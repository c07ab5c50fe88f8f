"""A pack in parts trains as the whole pack does, and ranks with few samples pass the model as often as others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from cosmos_core.builtin.tiny.config import TinyModel
from cosmos_core.builtin.tiny.family import TinyFamily
from cosmos_core.data import Item, MicroBatch
from cosmos_core.distributed import CounterRng, local_mesh
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.train import BuildContext, Trainer
from cosmos_core.train.fetch import fetch
from cosmos_core.train.parts import collated
from tests.benchmarks.running import batches_of, fresh_model, trainer_of

FAMILY: Any = SimpleNamespace(collate=lambda items: [item.value for item in items])
LENGTHS = (5, 2, 9, 4)


def pack_of(lengths: list[int]) -> MicroBatch:
    items = [Item(place, f"sample {place}", f"key {place}", num_tokens=length) for place, length in enumerate(lengths)]
    return MicroBatch(items, {"at": 3}, 0.5)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.integers(1, 8))
def test_parts_are_as_even_as_whole_samples_allow(lengths: list[int], parts: int) -> None:
    """No part would be the largest without its shortest sample: there is no memory for more than that."""
    pack = collated(pack_of(lengths), FAMILY, parts)
    assert len(pack.parts) == parts
    counting = [part for part in pack.parts if part.weight]
    assert len(counting) == min(parts, len(lengths))
    assert all(part.batch == [f"sample {item.position}" for item in part.items] for part in counting)
    assert all(part.items == [item for item in pack.items if item in part.items] for part in counting)
    assert sorted(item.position for part in counting for item in part.items) == list(range(len(lengths)))
    assert all(item.value is None for item in pack.items)
    tokens = [[max(1, item.num_tokens) for item in part.items] for part in counting]
    assert all(sum(part) - min(part) <= min(map(sum, tokens)) for part in tokens)
    assert sorted(map(sum, tokens), reverse=True) == list(map(sum, tokens)), "ranks pass parts of one size together"
    assert (pack.state, pack.packing_efficiency) == ({"at": 3}, 0.5)


def test_long_samples_that_are_neighbours_do_not_share_a_part() -> None:
    parts = collated(pack_of([9, 9, 9, 1, 1, 1]), FAMILY, 3).parts
    assert [[item.num_tokens for item in part.items] for part in parts] == [[9, 1], [9, 1], [9, 1]]


def test_samples_of_one_length_are_divided_evenly() -> None:
    sizes = [len(part.items) for part in collated(pack_of([7] * 21), FAMILY, 4).parts]
    assert sizes == [6, 5, 5, 5]


def test_a_pack_of_too_few_samples_repeats_its_shortest_one_which_does_not_count() -> None:
    parts = collated(pack_of([30, 10]), FAMILY, 4).parts
    assert [(part.batch, part.weight, len(part.items)) for part in parts] == [
        (["sample 0"], 1.0, 1),
        (["sample 1"], 1.0, 1),
        (["sample 1"], 0.0, 0),
        (["sample 1"], 0.0, 0),
    ]


def test_messages_name_the_micro_batch_and_its_part() -> None:
    family: Any = SimpleNamespace(collate=lambda items: torch.tensor(float(len(items))), loss_denominator=float)
    step = fetch((collated(pack, family, 2) for pack in (pack_of([6, 5, 4]), pack_of([7]))), 2, family, local_mesh())
    assert step.keys == {
        "micro-batch 0, part 0": ("key 1", "key 2"),
        "micro-batch 0, part 1": ("key 0",),
        "micro-batch 1, part 0": ("key 0",),
    }
    whole = fetch((collated(pack, family, 1) for pack in (pack_of([6, 5]), pack_of([7]))), 2, family, local_mesh())
    assert whole.keys == {"micro-batch 0": ("key 0", "key 1"), "micro-batch 1": ("key 0",)}


def trained(parts: int) -> Trainer:
    """After a step with one pack of four samples."""
    config = load("hello", ("model.noise=0.3",), plugins=PluginManager.discover())
    checkpointing = evolve(config.model.activation_checkpointing, parts=parts)
    config = evolve(config, model=evolve(config.model, activation_checkpointing=checkpointing))
    mesh = local_mesh()
    assert isinstance(config.model, TinyModel)
    family = TinyFamily(config.model, BuildContext(mesh.device, config.dataloader_train))
    run = trainer_of(config, family, fresh_model(config, family, mesh, CounterRng(7)), mesh)
    generator = torch.Generator().manual_seed(1)
    points = [torch.randn(length, 3, generator=generator) for length in LENGTHS]
    items = [Item(number, value, f"s{number}", "", len(value)) for number, value in enumerate(points)]
    run.train_step(batches_of(run, [MicroBatch(items, {}, 0.5)]))
    return run


@pytest.mark.parametrize("parts", [2, 3, 4, 7])
def test_a_step_in_parts_is_the_step_of_the_whole_pack(parts: int) -> None:
    """Loss, norm, tokens and weights; the random draws of a sample too, as there is noise. Bound: rounding."""
    whole, divided = trained(1), trained(parts)
    for name in ("loss", "grad_norm"):
        assert divided.record[name] == pytest.approx(whole.record[name], rel=1e-5)
    for name in ("tokens", "pack_filled"):
        assert divided.record[name] == whole.record[name]
    assert divided.samples == whole.samples == [[(f"s{number}", "") for number in range(4)]]
    for ours, theirs in zip(divided.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
