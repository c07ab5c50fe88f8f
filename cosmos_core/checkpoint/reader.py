"""Reads DCP directories without executing code in them.

torch's own reader unpickles the metadata file and every non-tensor entry; a downloaded checkpoint could execute code.
Here the metadata is read by `read_metadata_file`, and entries with ``weights_only``.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader, Metadata
from torch.distributed.checkpoint._nested_dict import set_element
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from cosmos_core.checkpoint.metadata import read_metadata_file
from cosmos_core.checkpoint.reading import groups, read_each
from cosmos_core.console import Progress
from cosmos_core.data.workers import is_lost_worker
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.plan.checkpoint import gone

__all__ = ["SafePlanner", "SafeReader", "not_plain", "stored_keys"]


GROUP_BYTES = 2**24
"""Small tensors are read by one thread: most of their time goes into Python, which runs one thread at a time."""


def _unsafe(path: Path, reason: str) -> UserError:
    problem = Problem(message=reason, file=str(path), hint="the checkpoint is damaged or unsafe")
    return UserError(f"{path} cannot be read as a checkpoint; nothing was loaded", [problem])


def not_plain(error: Exception) -> str:
    """Why `torch.load` refused a file, without its advice to execute what the file holds."""
    if "weights_only" not in str(error):
        return f"is damaged: {first_line(error)}"
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    return "holds more than plain values" + (f" ({named[1]})" if named else "")


class SafeReader(FileSystemReader):
    """FileSystemReader whose metadata may only hold DCP's own records. Raises UserError otherwise, and for damage."""

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what the plan asks for into the planner's state, several tensors at once."""
        tensors = [item for item in plan.items if item.type == LoadItemType.TENSOR]
        others = [item for item in plan.items if item.type != LoadItemType.TENSOR]
        read = super().read_data
        try:
            sizes = {item: self.storage_data[item.storage_index].length for item in tensors}
            read_each(lambda items: read(LoadPlan(items), planner).value(), groups(sizes, GROUP_BYTES))
            return read(LoadPlan(others), planner)
        except (UserError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # A damaged archive can raise anything.
            if is_lost_worker(error):
                raise
            raise self._unreadable(Path(self.path), f"its data {not_plain(error)}") from None

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The checkpoint's metadata."""
        path = Path(self.path) / ".metadata"
        try:
            return read_metadata_file(path)
        except Exception as error:  # A damaged pickle can raise anything.
            if is_lost_worker(error):
                raise
            raise self._unreadable(path, f"cannot read its metadata: {first_line(error)}") from None

    def _unreadable(self, path: Path, reason: str) -> UserError:
        checkpoint = Path(self.path).parent
        return _unsafe(path, reason) if checkpoint.is_dir() else gone(checkpoint, "nothing was loaded")


class SafePlanner(DefaultLoadPlanner):
    """DefaultLoadPlanner that reads non-tensor entries with ``weights_only``, and counts the bytes of tensors."""

    def __init__(self, loading: Progress | None = None) -> None:
        super().__init__()
        self._loading = loading

    def finish_plan(self, central_plan: LoadPlan) -> LoadPlan:
        """Add what this rank reads to the total."""
        plan = super().finish_plan(central_plan)
        if self._loading is not None:
            tensors = [item for item in plan.items if item.type == LoadItemType.TENSOR]
            self._loading.total += sum(
                item.lengths.numel() * self.state_dict[item.dest_index.fqn].dtype.itemsize for item in tensors
            )
        return plan

    def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
        """A tensor has been read."""
        super().commit_tensor(read_item, tensor)
        if self._loading is not None:
            self._loading.advance(tensor.nbytes)

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Put one non-tensor entry into the state."""
        name = read_item.dest_index.fqn
        try:
            entry = torch.load(value, weights_only=True)
        except Exception as error:
            if is_lost_worker(error):
                raise
            raise _unsafe(Path(name), f"entry '{name}' {not_plain(error)}") from None
        if self.flatten_state_dict:
            set_element(self.original_state_dict, self.mappings[name], entry)
        else:
            self.state_dict[name] = entry


def stored_keys(folder: Path) -> set[str]:
    """Flattened names of everything a DCP directory holds."""
    return set(SafeReader(folder).read_metadata().state_dict_metadata)
