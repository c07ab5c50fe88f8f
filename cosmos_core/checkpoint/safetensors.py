"""Weights to sharded safetensors with an index, one shard in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from attrs import frozen
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save_file

from cosmos_core.checkpoint.weights import StoredWeights
from cosmos_core.errors import UserError

__all__ = ["SHARD_BYTES", "Entry", "write_shards"]

SHARD_BYTES = 5 * 10**9


@frozen
class Entry:
    """Where a written tensor comes from: `source` under `name`, cast to `dtype`."""

    source: StoredWeights
    name: str
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes when written."""
        return self.source.infos[self.name].shape.numel() * self.dtype.itemsize


def write_shards(
    folder: Path,
    stem: str,
    entries: Mapping[str, Entry],
    *,
    shard_bytes: int = SHARD_BYTES,
    verify: bool = False,
) -> int:
    """Write `entries` (written name -> origin) as ``<stem>[-n-of-m].safetensors``; returns the number of files.

    verify: read every file back. Raises UserError when it differs then.
    """
    shards = list(_shards(entries, shard_bytes))
    weight_map: dict[str, str] = {}
    with Progress(transient=True) as progress:
        task = progress.add_task("writing", total=len(entries))
        for number, names in enumerate(shards, start=1):
            file = folder / _file(stem, number, len(shards))
            written = _read({name: entries[name] for name in names})
            save_file(written, file, metadata={"format": "pt"})
            if verify:
                _verify(file, written)
            weight_map.update(dict.fromkeys(names, file.name))
            progress.advance(task, len(names))
    if len(shards) > 1:
        total = sum(entry.size for entry in entries.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return len(shards)


def _shards(entries: Mapping[str, Entry], limit: int) -> Iterator[list[str]]:
    shard: list[str] = []
    used = 0
    for name, entry in entries.items():
        if shard and used + entry.size > limit:
            yield shard
            shard, used = [], 0
        shard.append(name)
        used += entry.size
    yield shard


def _file(stem: str, number: int, count: int) -> str:
    return f"{stem}.safetensors" if count == 1 else f"{stem}-{number:05d}-of-{count:05d}.safetensors"


def _read(entries: Mapping[str, Entry]) -> dict[str, torch.Tensor]:
    """Each source is asked once for all that a shard takes from it."""
    values: dict[str, torch.Tensor] = {}
    for source in {id(entry.source): entry.source for entry in entries.values()}.values():
        wanted = {name: entry for name, entry in entries.items() if entry.source is source}
        read = source.read({entry.name for entry in wanted.values()})
        values.update({name: read[entry.name].to(entry.dtype).contiguous() for name, entry in wanted.items()})
    return {name: values[name] for name in entries}


def _verify(file: Path, written: Mapping[str, torch.Tensor]) -> None:
    with safe_open(file, framework="pt") as opened:
        for name, value in written.items():
            if not torch.equal(opened.get_tensor(name), value):
                raise UserError(f"{file} does not hold what was written to it; is the disk sound?")
