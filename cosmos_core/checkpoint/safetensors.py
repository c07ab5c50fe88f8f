"""Weights to sharded safetensors with an index, a few tensors in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from cosmos_core.checkpoint.reading import groups
from cosmos_core.checkpoint.safetensors_open import open_safetensors
from cosmos_core.checkpoint.weights import StoredWeights
from cosmos_core.console import Progress, progress
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.record import synced_file

__all__ = ["GROUP_BYTES", "SHARD_BYTES", "Entry", "Written", "write_shards"]

SHARD_BYTES = 5 * 10**9
GROUP_BYTES = 2**28
"""Read together, since each read of a DCP directory opens it again."""
ALIGNMENT = 8
UNFINISHED = ".unfinished"
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@frozen
class Entry:
    """Where a written tensor comes from: `source` under `name`, cast to `dtype`."""

    source: StoredWeights
    name: str
    dtype: torch.dtype

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensor."""
        return self.source.infos[self.name].shape

    @property
    def size(self) -> int:
        """Bytes when written."""
        return self.shape.numel() * self.dtype.itemsize

    @property
    def stored_size(self) -> int:
        """Bytes when read."""
        return self.shape.numel() * self.source.infos[self.name].dtype.itemsize


@frozen
class Written:
    """files: number of weight files. kept: how many of them an interrupted attempt had finished."""

    files: int
    kept: int


def write_shards(
    folder: Path,
    stem: str,
    entries: Mapping[str, Entry],
    *,
    verify: bool,
    resume: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Written:
    """Write `entries`, by written name, as ``<stem>[-n-of-m].safetensors``; each file appears when it is complete.

    Memory holds a group of tensors of about 256 MiB, or one larger tensor. verify: read every file back and compare it
    with its source. resume: keep the files that are there. metadata: more entries for the files' headers. Raises
    UserError when a file differs.
    """
    shards = list(groups({name: entry.size for name, entry in entries.items()}, SHARD_BYTES))
    weight_map: dict[str, str] = {}
    resumed = 0
    total = sum(entry.size for entry in entries.values())
    with progress(f"writing {stem}", total * (1 + verify), "bytes") as writing:
        for number, names in enumerate(shards, start=1):
            file = folder / _file(stem, number, len(shards))
            part = {name: entries[name] for name in names}
            weight_map.update(dict.fromkeys(names, file.name))
            if resume and _holds(file, names):
                resumed += 1
                writing.advance(sum(entry.size for entry in part.values()) * (1 + verify))
                continue
            unfinished = folder / UNFINISHED
            _write(unfinished, part, {"format": "pt", **(metadata or {})}, writing)
            if verify:
                _verify(unfinished, part, writing)
            unfinished.replace(file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return Written(len(shards), resumed)


def _holds(file: Path, names: Collection[str]) -> bool:
    """Whether a file is there with all of its tensors."""
    if not file.is_file():
        return False
    with open_safetensors(file) as opened:
        return set(opened.keys()) == set(names)


def _file(stem: str, number: int, count: int) -> str:
    return f"{stem}.safetensors" if count == 1 else f"{stem}-{number:05d}-of-{count:05d}.safetensors"


def _write(file: Path, entries: Mapping[str, Entry], metadata: Mapping[str, str], writing: Progress) -> None:
    """Write the header with every tensor's offsets, then the tensors one by one.

    The library's own writer needs all of them in memory.
    """
    header = _header(entries, metadata)
    with synced_file(file) as out:
        out.write(len(header).to_bytes(8, "little"))
        out.write(header)
        for name, value in _values(entries):
            _check_finite(name, value, entries[name])
            out.write(value.reshape(-1).view(torch.uint8).numpy().data)
            writing.advance(entries[name].size)


def _check_finite(name: str, value: torch.Tensor, entry: Entry) -> None:
    """Raises UserError for NaN and infinities, which a dtype that is too narrow makes of finite weights too."""
    if value.is_floating_point() and not bool(value.isfinite().all()):
        message = f"{entry.name} holds NaN or infinite values as {value.dtype}".replace("torch.", "")
        hint = "is the checkpoint sound, and does the dtype hold its values? float16 ends at 65504"
        raise UserError("weights that are not finite are not written", [Problem(message=message, key=name, hint=hint)])


def _header(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    described: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, entry in entries.items():
        end = offset + entry.size
        described[name] = {"dtype": DTYPES[entry.dtype], "shape": list(entry.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(described).encode()
    return text + b" " * (-len(text) % ALIGNMENT)


def _values(entries: Mapping[str, Entry]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in order, contiguous and in the dtype to write; each source is read once for a group."""
    for names in groups({name: entry.stored_size for name, entry in entries.items()}, GROUP_BYTES):
        read: dict[tuple[int, str], torch.Tensor] = {}
        for source in {id(entries[name].source): entries[name].source for name in names}.values():
            own = {entries[name].name for name in names if entries[name].source is source}
            read.update({(id(source), name): value for name, value in source.read(own).items()})
        for name in names:
            entry = entries[name]
            yield name, read[id(entry.source), entry.name].to(entry.dtype).contiguous()


def _verify(file: Path, entries: Mapping[str, Entry], writing: Progress) -> None:
    with open_safetensors(file) as opened:
        same = set(opened.keys()) == set(entries)
    for name, value in _values(entries):
        # Opened for each tensor: while the file is open, the pages read count as memory of this process.
        with open_safetensors(file) as opened:
            same = same and torch.equal(opened.get_tensor(name), value)
        writing.advance(entries[name].size)
    if not same:
        raise UserError(f"{file} does not hold what was written to it; check the disk")
