"""The metadata of a downloaded DCP folder cannot change the program that reads it, nor lead out of the folder."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import Metadata
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING, ChunkStorageMetadata, MetadataIndex

from cosmos_core.checkpoint import (
    FrozenBase,
    load_component,
    read_weight_map,
    save_checkpoint,
    stored_keys,
    stored_tensors,
)
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import UserError

RECORDS = "torch.distributed.checkpoint.metadata"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path, 1, {"model": {"weight": torch.ones(4)}}, {}, local_mesh()) / "model"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pathlib", "PosixPath"),
        (RECORDS, "Metadata"),
        (RECORDS, "MetadataIndex"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.serialization", "_get_layout"),
        ("torch", "Size"),
        ("collections", "OrderedDict"),
        ("builtins", "getattr"),
    ],
)
def test_no_attribute_of_a_named_class_is_set(folder: Path, module: str, name: str) -> None:
    """BUILD with a second dictionary sets attributes of whatever lies on the stack, a class too."""
    whole = (folder / ".metadata").read_bytes()
    attribute = b"X\x07\x00\x00\x00planted"
    poison = _global(module, name) + b"N}" + attribute + b"I01\ns\x86b0"
    (folder / ".metadata").write_bytes(pickle.PROTO + b"\x02" + poison + whole[2:])
    with contextlib.suppress(UserError):
        stored_keys(folder)
    named = pickle.loads(_global(module, name) + b".")
    assert not hasattr(named, "planted")


def _edit(folder: Path, change: Callable[[Metadata], None]) -> None:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


@pytest.mark.parametrize("name", ["/etc/passwd", "../other.distcp", "a/../../b", "C:\\x", "\\\\host\\x", "", "a\0b"])
def test_a_shard_outside_its_folder_is_refused(folder: Path, name: str) -> None:
    def elsewhere(metadata: Metadata) -> None:
        metadata.storage_data = {key: _StorageInfo(name, 0, 100) for key in metadata.storage_data}

    _edit(folder, elsewhere)
    with pytest.raises(UserError) as caught:
        load_component(folder, {"weight": torch.zeros(4)}, local_mesh())
    assert "outside its folder" in str(caught.value)


def _negative_length(metadata: Metadata) -> None:
    metadata.storage_data = {key: _StorageInfo("__0_0.distcp", 0, -1) for key in metadata.storage_data}


def _chunk_past_the_end(metadata: Metadata) -> None:
    metadata.state_dict_metadata["weight"].chunks = [ChunkStorageMetadata(torch.Size([2]), torch.Size([4]))]


def _chunk_of_another_rank(metadata: Metadata) -> None:
    metadata.state_dict_metadata["weight"].chunks = [ChunkStorageMetadata(torch.Size([]), torch.Size([]))]


def _text_for_a_size(metadata: Metadata) -> None:
    metadata.state_dict_metadata["weight"].size = "four"


def _text_for_an_entry(metadata: Metadata) -> None:
    metadata.state_dict_metadata["weight"] = "tensor"


def _number_for_a_name(metadata: Metadata) -> None:
    metadata.state_dict_metadata[3] = metadata.state_dict_metadata.pop("weight")


def _number_for_a_place(metadata: Metadata) -> None:
    metadata.storage_data = dict.fromkeys(metadata.storage_data, 3)


def _number_for_an_index(metadata: Metadata) -> None:
    metadata.storage_data = {MetadataIndex(3): place for place in metadata.storage_data.values()}


def _no_storage(metadata: Metadata) -> None:
    metadata.storage_data = None


def _nested_endlessly(metadata: Metadata) -> None:
    nested: tuple[object, ...] = ()
    for _ in range(400):
        nested = (nested,)
    metadata.planner_data = {"weight": [nested, object]}


@pytest.mark.parametrize(
    "change",
    [
        _negative_length,
        _chunk_past_the_end,
        _chunk_of_another_rank,
        _text_for_a_size,
        _text_for_an_entry,
        _number_for_a_name,
        _number_for_a_place,
        _number_for_an_index,
        _no_storage,
        _nested_endlessly,
    ],
)
def test_values_of_another_type_or_range_are_refused(folder: Path, change: Callable[[Metadata], None]) -> None:
    _edit(folder, change)
    with pytest.raises(UserError, match="nothing was loaded"):
        stored_keys(folder)


def test_what_dcp_wrote_is_read_whole(folder: Path) -> None:
    assert stored_tensors(folder) == {"weight": (torch.Size([4]), torch.float32)}
    state = {"weight": torch.zeros(4)}
    load_component(folder, state, local_mesh())
    assert state["weight"].tolist() == [1, 1, 1, 1]


def test_what_dcp_wrote_under_an_older_python_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11.0 to 3.11.3, that of Debian 12 too, pickles the members of an enum by `getattr`."""
    monkeypatch.setattr(_MEM_FORMAT_ENCODING, "__reduce_ex__", lambda member, _: (getattr, (type(member), member.name)))
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    assert b"getattr" in (folder / ".metadata").read_bytes()
    assert stored_tensors(folder) == {"weight": (torch.Size([4]), torch.float32)}


def test_a_refusal_never_advises_to_execute_the_file(folder: Path) -> None:
    """torch's own message says to set weights_only to False."""
    saved = save_checkpoint(folder.parents[1], 2, {"model": {"note": object()}}, {}, local_mesh())
    with pytest.raises(UserError) as caught:
        load_component(saved / "model", {"note": ""}, local_mesh())
    assert "holds more than plain values" in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/../../b"])
def test_an_index_of_weights_names_files_of_its_own_folder(tmp_path: Path, name: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": name}}))
    with pytest.raises(UserError) as caught:
        read_weight_map(index)
    assert "outside its folder" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        *({"folder": 3}, {"rank": 0}, {"rank": "8"}, {"alpha": None}, {"seed": "x"}, {"dcp": 1}),
        *({"left_out": 1}, {"tensors": ["w"]}, {"tensors": {"w": "float31"}}, {"tensors": {"w": {}}}),
    ],
)
def test_the_record_of_a_checkpoints_base_has_values_of_its_types(tmp_path: Path, change: dict[str, object]) -> None:
    FrozenBase(folder="/base", digest="0", dcp=True, rank=8, alpha=16).write(tmp_path)
    assert FrozenBase.read(tmp_path) is not None
    path = tmp_path / "frozen_base.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match="is damaged"):
        FrozenBase.read(tmp_path)
