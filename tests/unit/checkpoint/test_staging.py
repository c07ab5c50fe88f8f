"""Memory that background saves copy into: pinned piece by piece, and no copy crosses from one piece into the next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cosmos_core.checkpoint import staging
from cosmos_core.checkpoint.staging import Staging, StagingMemory, unstaged
from tests.unit.logged import logged

PIECE = 4096
CPU = torch.device("cpu")


class Copies(TorchDispatchMode):
    """First and last byte of everything that is copied into."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.copy_.default and args[0].numel():
            self.ranges.append((args[0].data_ptr(), args[0].data_ptr() + args[0].nbytes - 1))
        return func(*args, **(kwargs or {}))


def test_tensors_of_any_shape_are_copied_whole_and_no_copy_crosses_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "PIECE", PIECE)
    torch.manual_seed(0)
    model = {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        "large": torch.randn(97, 41),
        "turned": torch.randn(60, 50).t(),
        "half": torch.randn(4001).bfloat16(),
        "flags": torch.rand(9000) > 0.5,
    }
    components = {"model": model, "trainer": {"count": torch.arange(1500)}}
    memory = Staging(components, CPU)
    with Copies() as copies:
        staged = memory.stage(components, at_once=())
    found = unstaged(staged.components, memory.memory, None)
    assert all(torch.equal(found["model"][name], value) for name, value in model.items())
    assert torch.equal(found["trainer"]["count"], torch.arange(1500))
    base = memory.memory.view(staged.components["model"]["scalar"]).data_ptr()
    assert all((first - base) // PIECE == (last - base) // PIECE for first, last in copies.ranges)
    memory.release()


@pytest.mark.parametrize("refused", [None, 2])
def test_every_piece_is_pinned_and_given_back(refused: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the driver refuses one, those before it stay pinned, and the log says how much that is."""
    pinned: dict[int, int] = {}

    def register(place: int, size: int, flags: int) -> int:
        if len(pinned) == refused:
            return 2
        pinned[place] = size
        return 0

    cudart = SimpleNamespace(cudaHostRegister=register, cudaHostUnregister=pinned.pop)
    monkeypatch.setattr(staging, "PIECE", PIECE)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    memory = StagingMemory.of_size(3 * PIECE + 128)
    with logged("cosmos_core.checkpoint.staging") as lines:
        memory.pin(torch.device("cuda", 0))
    begins = sorted(pinned)
    assert [begin - begins[0] for begin in begins] == [0, PIECE, 2 * PIECE, 3 * PIECE][:refused]
    assert [pinned[begin] for begin in begins] == [PIECE, PIECE, PIECE, 128][:refused]
    told = "8192 of 12416 bytes for saves are pinned, no more can be (CUDA error 2); copies are slower"
    assert lines == ([] if refused is None else [told])
    memory.release()
    assert not pinned
