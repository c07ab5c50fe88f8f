"""Reads DCP directories without executing code in them.

torch's own reader unpickles the metadata file and every non-tensor entry; a downloaded checkpoint could execute code.
Here the metadata may only name DCP's own records, and entries are read with ``weights_only``.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader, Metadata
from torch.distributed.checkpoint._nested_dict import set_element
from torch.distributed.checkpoint.metadata import StorageMeta
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from cosmos_core.console import Progress
from cosmos_core.errors import Problem, UserError, first_line

__all__ = ["SafePlanner", "SafeReader", "stored_keys"]

_ALLOWED = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", "device"} | {name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)},
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath", "Path"},
}


class _MetadataUnpickler(pickle.Unpickler):
    """Finds only the classes listed above, by whole names: a dotted name could reach what their module imports."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if global_name in _ALLOWED.get(module_name, ()):
            return super().find_class(module_name, global_name)
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def _unsafe(path: Path, reason: str) -> UserError:
    problem = Problem(message=reason, file=str(path), hint="the checkpoint is damaged or unsafe")
    return UserError(f"{path} cannot be read as a checkpoint; nothing was loaded", [problem])


class SafeReader(FileSystemReader):
    """FileSystemReader whose metadata may only hold DCP's own records. Raises UserError otherwise, and for damage."""

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what the plan asks for into the planner's state."""
        try:
            return super().read_data(plan, planner)
        except (UserError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # A damaged archive can raise anything.
            reason = first_line(error)
            raise _unsafe(Path(self.path), f"cannot read its data: {reason}") from None

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The checkpoint's metadata."""
        path = Path(self.path) / ".metadata"
        try:
            with path.open("rb") as file:
                metadata = _MetadataUnpickler(file).load()
        except Exception as error:  # A damaged pickle can raise anything.
            raise _unsafe(path, f"cannot read its metadata: {error}") from None
        if not isinstance(metadata, Metadata) or not _complete(metadata):
            raise _unsafe(path, "its metadata is not that of a DCP checkpoint")
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def _complete(metadata: Metadata) -> bool:
    """Whether all fields of all records are set; unpickling damaged ones can leave them out."""
    indexes = (getattr(metadata, name, None) for name in ("state_dict_metadata", "storage_data"))
    return all(isinstance(index, dict) for index in indexes) and _fields_set(metadata)


def _fields_set(value: Any) -> bool:
    if is_dataclass(value):
        return all(hasattr(value, part.name) and _fields_set(getattr(value, part.name)) for part in fields(value))
    parts = value.values() if isinstance(value, dict) else value
    return all(map(_fields_set, parts)) if isinstance(value, (dict, list, tuple)) else True


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
            raise _unsafe(Path(name), f"entry '{name}' holds more than plain values, or is damaged: {error}") from None
        if self.flatten_state_dict:
            set_element(self.original_state_dict, self.mappings[name], entry)
        else:
            self.state_dict[name] = entry


def stored_keys(folder: Path) -> set[str]:
    """Flattened names of everything a DCP directory holds."""
    return set(SafeReader(folder).read_metadata().state_dict_metadata)
