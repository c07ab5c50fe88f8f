"""Writes a checkpoint under a hidden name and renames it when it is complete."""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException, DefaultSavePlanner
from torch.distributed.checkpoint.planner import SavePlan, WriteItem

from cosmos_core.checkpoint.hashing_writer import HashingWriter, collect_checksums
from cosmos_core.checkpoint.warning_filter import without_single_process_warning
from cosmos_core.console import Progress, progress
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import any_rank
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.frozen_base import FrozenBase
from cosmos_core.plan.leftovers import PARTIAL, remove_leftovers
from cosmos_core.plan.manifest import write_manifest
from cosmos_core.plan.paths import iteration_name
from cosmos_core.plan.record import synced_file
from cosmos_core.plan.trained import write_launch

__all__ = ["SaveFailed", "save_checkpoint"]


RENAME_EXCHANGE = 2
"""renameat2(2)."""
_renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None


class SaveFailed(UserError):
    """Raised when a checkpoint could not be written; earlier ones are complete."""


def save_checkpoint(
    checkpoints: Path,
    step: int,
    components: Mapping[str, dict[str, Any]],
    loader: Any,
    mesh: Mesh,
    *,
    base: FrozenBase | None = None,
    launch: int | None = None,
    shown: bool = True,
) -> Path:
    """Write every component as DCP, and this rank's loader state; returns the folder, visible on return.

    base: of the frozen weights, which may be left to it. launch: number of the launch that trained the weights.
    shown: whether people see the progress.

    If the run is killed at any moment, the previous checkpoint stays the latest: the folder is renamed when all ranks
    have written everything, and ``latest_checkpoint.txt`` is replaced last. Collective. Raises SaveFailed on all ranks
    when the disk of one does not take it; nothing half-written stays then.
    """
    final = checkpoints / iteration_name(step)
    hidden = checkpoints / f".{final.name}{PARTIAL}"

    def begin() -> None:
        remove_leftovers(checkpoints)
        (hidden / "dataloader").mkdir(parents=True)
        if base is not None:
            base.write(hidden)
        if launch is not None:
            write_launch(hidden, launch)

    def write() -> None:
        with without_single_process_warning(), progress(f"saving {final.name}", unit="bytes", shown=shown) as saving:
            for name, component in components.items():
                writer, planner = HashingWriter(hidden / name), _CountingPlanner(saving)
                dcp.save(component, storage_writer=writer, planner=planner, no_dist=not mesh.distributed)
        with synced_file(hidden / "dataloader" / f"rank_{mesh.rank}.pkl") as file:
            torch.save(loader, file)

    def publish() -> None:
        write_manifest(hidden, collect_checksums(hidden))
        _publish(hidden, final)
        with suppress(OSError):
            remove_leftovers(checkpoints)

    for part, on_all in ((begin, False), (write, True), (publish, False)):
        reason = _fault(part) if on_all or mesh.rank == 0 else None
        if any_rank(reason is not None, mesh):
            shutil.rmtree(hidden, ignore_errors=True)
            raise _failed(step, checkpoints, reason or "another rank could not write")
    return final


def _fault(write: Callable[[], None]) -> str | None:
    """Why the disk did not take what `write` writes; None when it did."""
    try:
        write()
    except OSError as error:
        return str(error)
    except CheckpointException as error:
        if _interrupted(error):
            raise KeyboardInterrupt from None
        reason = _of_the_disk(error)
        if reason is None:
            raise
        return reason
    return None


class _CountingPlanner(DefaultSavePlanner):
    """DefaultSavePlanner that counts the bytes of this rank's tensors."""

    def __init__(self, saving: Progress) -> None:
        super().__init__()
        self._saving = saving

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        """Add what this rank writes to the total."""
        plan = super().finish_plan(new_plan)
        self._saving.total += sum(_size(item) for item in plan.items)
        return plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor | io.BytesIO:
        """Called for each tensor when its turn comes."""
        self._saving.advance(_size(write_item))
        return super().resolve_data(write_item)


def _size(item: WriteItem) -> int:
    """Bytes of this rank's part of a tensor; small values count as nothing."""
    part = item.tensor_data
    return part.chunk.sizes.numel() * part.properties.dtype.itemsize if part is not None else 0


def _failed(step: int, checkpoints: Path, reason: str) -> SaveFailed:
    hint = "mend the disk or free some space, then run the same command again"
    title = f"the checkpoint of step {step} could not be written; earlier ones are complete"
    return SaveFailed(title, [Problem(message=reason, file=str(checkpoints), hint=hint)])


def _interrupted(error: CheckpointException) -> bool:
    """Whether a signal ended it; DCP wraps that too."""
    return any(isinstance(cause, KeyboardInterrupt) for cause, _ in error.failures.values())


def _of_the_disk(error: CheckpointException) -> str | None:
    """The message of a disk's error among the causes of `error`; None for another failure."""
    causes: list[BaseException] = [cause for cause, _ in error.failures.values()]
    while causes:
        cause = causes.pop()
        if isinstance(cause, OSError):
            return str(cause)
        causes += [inner for inner in (cause.__cause__, cause.__context__) if inner is not None]
    return None


def _publish(hidden: Path, final: Path) -> None:
    for path in (*hidden.iterdir(), hidden):
        _sync(path)
    if not final.exists():
        hidden.rename(final)
    elif not _exchanged(hidden, final):
        # Saving a step again: move the old one aside first, so that the folder never holds parts of both.
        replaced = final.with_name(f".{final.name}.replaced{PARTIAL}")
        final.rename(replaced)
        try:
            hidden.rename(final)
        except OSError:
            replaced.rename(final)
            raise
    latest = final.parent / "latest_checkpoint.txt"
    written = latest.with_name(f".{latest.name}{PARTIAL}")
    with synced_file(written) as file:
        file.write(f"{final.name}\n".encode())
    _sync(final.parent)
    written.replace(latest)
    _sync(final.parent)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two folders in one step, so that a kill finds one or the other; whether the file system can."""
    here = -100  # AT_FDCWD
    names = (here, os.fsencode(first), here, os.fsencode(second))
    return _renameat2 is not None and _renameat2(*names, RENAME_EXCHANGE) == 0


def _sync(path: Path) -> None:
    """Of a file its content, of a folder the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
