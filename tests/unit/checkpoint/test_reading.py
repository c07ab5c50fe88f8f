"""Several tensors are read at once: each exactly once, without gradients, and the first error ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Barrier

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader, LoadPlan, LoadPlanner
from torch.futures import Future

from cosmos_core.checkpoint import load_component, read_each
from cosmos_core.checkpoint import reader as reader_module
from cosmos_core.distributed.runtime import local_mesh
from cosmos_core.errors import UserError


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_as_many_read_at_once_as_this_process_may_use_cores(three_threads: None) -> None:
    together, read = Barrier(3), list[int]()

    def read_one(item: int) -> None:
        together.wait(60)
        assert not torch.is_grad_enabled()
        read.append(item)

    read_each(read_one, range(6))
    assert sorted(read) == list(range(6))


def test_the_first_error_is_raised_and_the_rest_is_left_out(three_threads: None) -> None:
    read = list[int]()

    def read_one(item: int) -> None:
        if item == 0:
            raise UserError("damaged")
        read.append(item)

    with pytest.raises(UserError, match="damaged"):
        read_each(read_one, range(100_000))
    assert len(read) < 100_000


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_load_that_is_interrupted_ends_as_any_command_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would make a failure of the checkpoint of it, with a traceback."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    dcp.save({"net.a": torch.zeros(2)}, checkpoint_id=tmp_path, no_dist=True)
    monkeypatch.setattr(reader_module, "read_each", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_component(tmp_path, {"net.a": torch.zeros(2)}, local_mesh())


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("limit", [64, reader_module.GROUP_BYTES])
def test_a_checkpoint_is_the_same_to_the_last_bit_read_by_one_or_several_threads(
    tmp_path: Path, three_threads: None, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Small tensors are read by one."""
    calls = list[int]()

    def counted(reader: FileSystemReader, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        calls.append(len(plan.items))
        return read(reader, plan, planner)

    read = FileSystemReader.read_data
    monkeypatch.setattr(FileSystemReader, "read_data", counted)
    monkeypatch.setattr(reader_module, "GROUP_BYTES", limit)
    stored = {f"net.{number}": torch.randn(7, number + 1).bfloat16() for number in range(20)}
    dcp.save({**stored, "step": 3}, checkpoint_id=tmp_path, no_dist=True)
    found = {"step": 0, **{name: torch.empty_like(value, dtype=torch.float32) for name, value in stored.items()}}
    load_component(tmp_path, found, local_mesh())
    assert found["step"] == 3
    assert sorted(calls) == ([1, 20] if limit > 64 else [1] * 21)
    assert all(torch.equal(found[name], value.float()) for name, value in stored.items())
