"""Copies tensors into memory that another process writes to the disk, so that training can go on."""

from __future__ import annotations

import copy
import logging
import mmap
import os
import time
from collections.abc import Callable, Collection, Mapping
from math import prod
from threading import Thread
from typing import Any

import torch
from attrs import frozen
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement

from cosmos_core.distributed.fsdp import to_local

__all__ = ["Sharding", "Slot", "Staged", "Staging", "StagingMemory", "size_of", "unstaged"]

logger = logging.getLogger(__name__)

ALIGNMENT = 64
PIECE = 64 << 20
"""Bytes that are pinned in one call, for which all other CUDA calls of the process may wait."""
OVERLAPPED = ("model", "optim")
"""Components whose tensors change in the optimizer's update alone, so that they can be copied until then."""


@frozen
class Sharding:
    """How the parts of all ranks make a tensor. dimensions: names of the mesh's dimensions. shape, stride: whole."""

    dimensions: tuple[str, ...]
    placements: tuple[Placement, ...]
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: DTensor) -> Sharding:
        """That of `tensor`."""
        names = tensor.device_mesh.mesh_dim_names
        assert names is not None, "the run's mesh has names"
        return cls(tuple(names), tuple(tensor.placements), tuple(tensor.shape), tuple(tensor.stride()))


@frozen
class Slot:
    """Where a tensor lies in the memory. shape: of this rank's part, which is all of it without a sharding."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    sharding: Sharding | None

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + prod(self.shape) * self.dtype.itemsize


class StagingMemory:
    """Anonymous memory behind an open file, which a child can map too. It needs no room in ``/dev/shm``."""

    def __init__(self, file: int, size: int) -> None:
        self.file, self.size = file, size
        self._map = mmap.mmap(file, size)
        self._pinned: list[int] = []  # Where each piece begins.

    @classmethod
    def of_size(cls, size: int) -> StagingMemory:
        """New memory; the system finds pages for it when they are written. Linux only."""
        file = os.memfd_create("checkpoint")
        os.ftruncate(file, size)
        return cls(file, size)

    def view(self, slot: Slot) -> torch.Tensor:
        """The tensor in a slot; it shares the memory, and its storage is as large as the tensor."""
        count = prod(slot.shape)
        if not count:
            return torch.empty(slot.shape, dtype=slot.dtype)
        return torch.frombuffer(self._map, dtype=slot.dtype, count=count, offset=slot.offset).view(slot.shape)

    def fill(self, slot: Slot, tensor: torch.Tensor) -> None:
        """Copy a tensor, from any device, into its slot. In parts: CUDA refuses a copy across two pinned pieces."""
        size = slot.dtype.itemsize
        cuts = tuple(range(-slot.offset % PIECE // size, prod(slot.shape), PIECE // size))
        parts = (whole.reshape(-1).tensor_split(cuts) for whole in (self.view(slot), tensor))
        for place, part in zip(*parts, strict=True):
            place.copy_(part, non_blocking=True)

    def pin(self, device: torch.device) -> None:
        """Lock its pages in the host's memory, which lets a GPU copy into it while both go on. Slow."""
        torch.cuda.set_device(device)
        begun = time.perf_counter()
        for piece in self._whole().split(PIECE):
            piece.zero_()  # So that the driver finds pages, and does not hold everybody up while they are made.
            code = int(torch.cuda.cudart().cudaHostRegister(piece.data_ptr(), piece.nbytes, 0))
            if code:
                text = "%d of %d bytes for saves are pinned, no more can be (CUDA error %d); copies are slower"
                logger.warning(text, len(self._pinned) * PIECE, self.size, code)
                return
            self._pinned.append(piece.data_ptr())
        logger.debug("%d bytes for saves are pinned after %.1f s", self.size, time.perf_counter() - begun)

    def release(self) -> None:
        """Give it back. Views that others still have stay valid."""
        for place in self._pinned:
            torch.cuda.cudart().cudaHostUnregister(place)
        os.close(self.file)

    def _whole(self) -> torch.Tensor:
        return torch.frombuffer(self._map, dtype=torch.uint8)


class Staged:
    """A copy under way. components: nested values in which each tensor is a `Slot`."""

    def __init__(self, components: dict[str, Any], sources: list[torch.Tensor], done: torch.cuda.Event | None) -> None:
        self.components = components
        self._sources = sources  # Kept, so that nothing else gets their memory before it is read.
        self._done = done

    def before_change(self) -> None:
        """To be called before the copied tensors change: the device's next work comes after the copy."""
        if self._done is not None:
            torch.cuda.current_stream().wait_event(self._done)
        self._sources.clear()

    def wait(self) -> None:
        """Wait until everything is copied."""
        if self._done is not None:
            self._done.synchronize()


class Staging:
    """Copies components into memory of its own, again and again."""

    def __init__(self, components: Mapping[str, Any], device: torch.device) -> None:
        """Make room for `components`, on a GPU in pages that are pinned meanwhile."""
        self.memory = StagingMemory.of_size(max(size_of(components), mmap.PAGESIZE))
        self._stream: torch.cuda.Stream | None = None
        self._pinning: Thread | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._pinning = Thread(target=self.memory.pin, args=(device,), name="pin", daemon=True)
            self._pinning.start()

    def fits(self, components: Mapping[str, Any]) -> bool:
        """Whether there is room; parts of a state may grow."""
        return size_of(components) <= self.memory.size

    @torch.no_grad()
    def stage(self, components: Mapping[str, Any], *, at_once: Collection[str]) -> Staged:
        """Begin to copy every tensor in `components`; see `Staged.before_change`. Other values are copied on return.

        at_once: names of tensors that change before the optimizer's update, such as buffers.
        """
        if self._pinning is not None:
            self._pinning.join()
        early: list[tuple[torch.Tensor, Slot]] = []
        late: list[tuple[torch.Tensor, Slot]] = []

        def note(tensor: torch.Tensor, slot: Slot, path: tuple[str, ...]) -> None:
            (late if path[0] in OVERLAPPED and path[-1] not in at_once else early).append((tensor, slot))

        described = _placed(components, note)
        for tensor, slot in early:
            self.memory.fill(slot, to_local(tensor))
        if self._stream is None:
            for tensor, slot in late:
                self.memory.fill(slot, to_local(tensor))
            return Staged(described, [], None)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for tensor, slot in late:
                self.memory.fill(slot, to_local(tensor))
            done = torch.cuda.Event()
            done.record()
        return Staged(described, [tensor for tensor, _ in late], done)

    def release(self) -> None:
        """Give the memory back."""
        if self._pinning is not None:
            self._pinning.join()
        self.memory.release()


@torch.no_grad()
def _placed(
    components: Mapping[str, Any], note: Callable[[torch.Tensor, Slot, tuple[str, ...]], None]
) -> dict[str, Any]:
    """The nested values with a slot in place of each tensor. `note` is called with each and its path."""
    end = 0

    def place(tensor: torch.Tensor, path: tuple[str, ...]) -> Slot:
        nonlocal end
        sharding = Sharding.of(tensor) if isinstance(tensor, DTensor) else None
        offset = _aligned(end)
        slot = Slot(offset, tuple(to_local(tensor).shape), tensor.dtype, sharding)
        end = slot.end
        note(tensor, slot, path)
        return slot

    def leaf(value: Any, path: tuple[str, ...]) -> Any:
        return place(value, path) if isinstance(value, torch.Tensor) else copy.deepcopy(value)

    return {name: _mapped(value, leaf, (name,)) for name, value in components.items()}


@torch.no_grad()
def size_of(components: Mapping[str, Any]) -> int:
    """Bytes of staging memory that this rank needs for them."""
    end = 0

    def add(value: Any, path: tuple[str, ...]) -> None:
        nonlocal end
        if isinstance(value, torch.Tensor):
            end = _aligned(end) + to_local(value).nbytes

    for name, value in components.items():
        _mapped(value, add, (name,))
    return end


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def unstaged(components: Mapping[str, Any], memory: StagingMemory, mesh: DeviceMesh | None) -> dict[str, Any]:
    """The tensors in place of the slots. mesh: of this rank's process group on the host, named as that of the run."""

    def leaf(value: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(value, Slot):
            return value
        local, sharding = memory.view(value), value.sharding
        if sharding is None:
            return local
        assert mesh is not None
        part = mesh if sharding.dimensions == mesh.mesh_dim_names else mesh[sharding.dimensions]
        return DTensor.from_local(
            local, part, sharding.placements, run_check=False, shape=torch.Size(sharding.shape), stride=sharding.stride
        )

    return {name: _mapped(value, leaf, (name,)) for name, value in components.items()}


def _mapped(value: Any, leaf: Callable[[Any, tuple[str, ...]], Any], path: tuple[str, ...]) -> Any:
    """`value` with `leaf` of everything that is no dictionary, list or tuple."""
    if isinstance(value, dict):
        return {key: _mapped(inner, leaf, (*path, str(key))) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(inner, leaf, path) for inner in value)
    return leaf(value, path)
