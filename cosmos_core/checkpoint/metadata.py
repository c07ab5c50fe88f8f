"""Reads the metadata file of a DCP directory, a pickle, without building anything that it names.

Every class that the file may name is replaced by a plain holder of what the file says of it. The holders of one file
share nothing with another's. The metadata is built from them afterwards, and each value is checked.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import Metadata
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from cosmos_core.names import leads_outside

__all__ = ["read_metadata_file"]

_RECORDS = "torch.distributed.checkpoint.metadata"
_HOLDERS = {
    _RECORDS: {
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
    "pathlib": {"PosixPath", "Path"},
    "builtins": {"getattr"},  # By which Python 3.11.0 to 3.11.3 pickle members of enums.
}
_TYPES: dict[tuple[str, str], Any] = {
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("collections", "OrderedDict"): OrderedDict,
    **{("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
}
"""Types of C: a pickle cannot set their attributes."""


class _Holder:
    """What a pickle says of one record: the arguments that it is made from, and its state."""

    record = ""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Finds only the names listed above, whole: a dotted name could reach what their module imports."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if global_name in _HOLDERS.get(module_name, ()):
            # A class of its own each time: a pickle can also set attributes of the class that it names.
            return type("_Named", (_Holder,), {"record": global_name})
        if (module_name, global_name) in _TYPES:
            return _TYPES[module_name, global_name]
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")

    def persistent_load(self, identity: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of itself")


def read_metadata_file(path: Path) -> Metadata:
    """The metadata in `path`. Raises OSError, and ValueError or whatever a damaged pickle causes."""
    with path.open("rb") as file:
        metadata = _record(_Unpickler(file).load(), "Metadata")
    entries = _dictionary(metadata.get("state_dict_metadata"))
    stored = _dictionary(metadata.get("storage_data"))
    return Metadata(
        state_dict_metadata={_text(name): _entry(value) for name, value in entries.items()},
        planner_data=_plain(metadata.get("planner_data")),
        storage_data={_index(index): _stored(value) for index, value in stored.items()},
        storage_meta=StorageMeta(),
    )


def _record(value: Any, name: str) -> dict[str, Any]:
    """The fields of a holder of `name`."""
    _demand(isinstance(value, _Holder) and value.record == name and isinstance(value.state, dict), name)
    return dict(value.state)


def _entry(value: Any) -> TensorStorageMetadata | BytesStorageMetadata:
    if isinstance(value, _Holder) and value.record == "BytesStorageMetadata":
        return BytesStorageMetadata()
    tensor = _record(value, "TensorStorageMetadata")
    size, chunks = _size(tensor.get("size")), tensor.get("chunks")
    if not isinstance(chunks, list):
        raise ValueError("the chunks of a tensor are no list")
    return TensorStorageMetadata(_properties(tensor.get("properties")), size, [_chunk(chunk, size) for chunk in chunks])


def _chunk(value: Any, size: torch.Size) -> ChunkStorageMetadata:
    chunk = _record(value, "ChunkStorageMetadata")
    offsets, sizes = _size(chunk.get("offsets")), _size(chunk.get("sizes"))
    inside = len(offsets) == len(sizes) == len(size)
    inside = inside and all(start + part <= whole for start, part, whole in zip(offsets, sizes, size, strict=True))
    _demand(inside, "a chunk within its tensor")
    return ChunkStorageMetadata(offsets, sizes)


def _properties(value: Any) -> TensorProperties:
    """Made of the dtype alone; loading has no use for the rest."""
    _demand(isinstance(value, _Holder) and value.record == "TensorProperties", "TensorProperties")
    match value.state:
        case (torch.dtype() as dtype, *_):
            return TensorProperties(dtype=dtype)
    raise ValueError("a tensor has no dtype")


def _index(value: Any) -> MetadataIndex:
    index = _record(value, "MetadataIndex")
    offset, hint = index.get("offset"), index.get("index")
    _demand(hint is None or isinstance(hint, int), "index")
    return MetadataIndex(_text(index.get("fqn")), None if offset is None else _size(offset), hint)


def _stored(value: Any) -> _StorageInfo:
    known = {part.name: None if part.default is MISSING else part.default for part in fields(_StorageInfo)}
    info = {**known, **_record(value, "_StorageInfo")}
    _demand(info.keys() == known.keys(), "_StorageInfo")
    name = _text(info["relative_path"])
    if leads_outside(name):
        raise ValueError(f"it names the file {name!r}, which is outside its folder")
    _demand(all(isinstance(info[key], int) and info[key] >= 0 for key in ("offset", "length")), "offset and length")
    transforms = info.pop("transform_descriptors", None)
    _demand(transforms is None or (isinstance(transforms, (list, tuple)) and all(map(_is_text, transforms))), "steps")
    return _StorageInfo(**info, **({} if transforms is None else {"transform_descriptors": transforms}))


def _size(value: Any) -> torch.Size:
    _demand(isinstance(value, torch.Size) and all(part >= 0 for part in value), "a size")
    return torch.Size(value)


def _plain(value: Any) -> Any:
    """Text, numbers and containers of them."""
    if isinstance(value, dict):
        return {_plain(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    _demand(value is None or isinstance(value, (str, int, float, bool)), "plain values")
    return value


def _dictionary(value: Any) -> dict[Any, Any]:
    _demand(isinstance(value, dict), "a dictionary")
    return dict(value)


def _text(value: Any) -> str:
    _demand(_is_text(value), "text")
    return str(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _demand(holds: bool, entry: str) -> None:
    if not holds:
        raise ValueError(f"it lacks {entry} in a place where DCP writes it")
