"""Writes a DCP directory tensor by tensor, so that memory use does not grow with the model.

The layout is DCP's own: data files of serialised tensors, and metadata saying where each lies. A data file is renamed
into place when it is complete, with its index beside it, so that an interrupted attempt continues at the next file.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import Metadata
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from cosmos_core.checkpoint.crc32 import without_crc32
from cosmos_core.checkpoint.reader import SafeReader
from cosmos_core.formats import check_format
from cosmos_core.plan.record import replace_file, synced_file
from cosmos_core.strict_json import read_object

__all__ = ["DcpWriter", "stored_tensors"]

INDEX_FORMAT = 1
"""Of the index beside a data file while a directory is written."""


class DcpWriter:
    """Writes data files one by one; `finish` makes the directory readable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files: list[str] = []

    def has(self, number: int, of: str) -> bool:
        """Whether an earlier attempt completed data file `number` from the source with the digest `of`."""
        index, file = self._index(number), self.folder / _name(number)
        return index.is_file() and file.is_file() and bool(_read_index(index)["of"] == of)

    def write(self, number: int, tensors: Iterable[tuple[str, torch.Tensor]], *, of: str) -> None:
        """Write data file `number`; at most one tensor is held at a time."""
        final = self.folder / _name(number)
        # One from another source must not match the new index, which is written first.
        final.unlink(missing_ok=True)
        hidden = final.with_name(f".{final.name}.partial")
        entries: dict[str, Any] = {}
        with synced_file(hidden) as file, without_crc32():
            for key, tensor in tensors:
                offset = file.tell()
                torch.save(tensor.detach().contiguous().clone(), file)
                entries[key] = {
                    "dtype": str(tensor.dtype).removeprefix("torch."),
                    "shape": list(tensor.shape),
                    "offset": offset,
                    "length": file.tell() - offset,
                }
        index = {"format": INDEX_FORMAT, "of": of, "tensors": entries}
        replace_file(self._index(number), json.dumps(index).encode())
        hidden.replace(final)

    def finish(self, count: int) -> None:
        """Write the metadata of `count` data files and remove their indexes."""
        state: dict[str, Any] = {}
        storage: dict[MetadataIndex, _StorageInfo] = {}
        for number in range(count):
            index = _read_index(self._index(number))
            for key, entry in index["tensors"].items():
                size = torch.Size(entry["shape"])
                start = torch.Size([0] * len(size))
                properties = TensorProperties(dtype=getattr(torch, entry["dtype"]))
                state[key] = TensorStorageMetadata(properties, size, [ChunkStorageMetadata(start, size)])
                place = _StorageInfo(_name(number), entry["offset"], entry["length"])
                storage[MetadataIndex(key, start)] = place
        metadata = Metadata(state, planner_data={key: (key,) for key in state}, storage_data=storage)
        replace_file(self.folder / ".metadata", pickle.dumps(metadata))
        for number in range(count):
            self._index(number).unlink()

    def _index(self, number: int) -> Path:
        return self.folder / f".{_name(number)}.json"


def _read_index(path: Path) -> dict[str, Any]:
    """The index beside a data file. Raises UserError when a newer version wrote it."""
    index = read_object(path)
    check_format(index, path, INDEX_FORMAT)
    return index


def _name(number: int) -> str:
    return f"__0_{number}.distcp"


def stored_tensors(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and dtype of every tensor in a DCP directory, in stored order. Raises UserError for a damaged one."""
    entries = SafeReader(folder).read_metadata().state_dict_metadata.items()
    tensors = {key: entry for key, entry in entries if isinstance(entry, TensorStorageMetadata)}
    return {key: (entry.size, entry.properties.dtype) for key, entry in tensors.items()}
