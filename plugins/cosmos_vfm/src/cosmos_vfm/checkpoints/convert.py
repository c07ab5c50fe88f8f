"""Published checkpoint -> base checkpoint for training, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os.path import isdir, realpath
from pathlib import Path
from typing import Any

import torch

from cosmos_core.checkpoint import DcpWriter, atomic_directory, fingerprint
from cosmos_core.console import Progress, progress
from cosmos_core.errors import UserError
from cosmos_core.plan import write_base
from cosmos_vfm.checkpoints.components import store_components
from cosmos_vfm.checkpoints.diffusers_config import matching_size
from cosmos_vfm.checkpoints.published import Published, open_published

__all__ = ["to_dcp"]


def to_dcp(source: Path, output: Path, *, source_revision: str = "") -> dict[str, Any]:
    """Write `output`/model as DCP with ``net.`` names, and copies of the other components. Returns facts to print.

    source_revision: repository and commit of the source, stored in base.json. Memory holds one tensor at a time. An
    interrupted conversion continues with the missing shards; `output` appears when it is complete. Raises UserError
    for an unknown layout, for damaged shards, or when `output` exists.
    """
    if not isdir(source):
        raise UserError(f"no such folder: {source}; nothing was converted")
    with atomic_directory(output, "nothing was converted", made_of=realpath(source)) as hidden:
        published = open_published(source)
        model_size = matching_size(published.shapes)
        _write_shards(published, DcpWriter(hidden / "model"))
        components = store_components(published, hidden)
        write_base(hidden, source_revision=source_revision or str(published.root.resolve()), config=published.config)
    return {
        "checkpoint": str(output),
        "shards": len(published.files),
        "model size": model_size or "none of the released ones",
        "components": components,
    }


def _write_shards(published: Published, writer: DcpWriter) -> None:
    """One data file per shard. Files that an earlier attempt wrote from the same source are reused."""
    with progress("converting", sum(file.stat().st_size for file in published.files), "bytes") as converting:
        finished = 0
        for number, file in enumerate(published.files):
            status = file.resolve().stat()
            of = f"{file.resolve()} {status.st_size} {status.st_mtime_ns} {fingerprint(file.parent, file.name)}"
            if not writer.has(number, of):
                writer.write(number, _counted(published.tensors(file), converting), of=of)
            finished += status.st_size
            converting.advance(finished - converting.done)
    writer.finish(len(published.files))


def _counted(tensors: Iterable[tuple[str, torch.Tensor]], converting: Progress) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in tensors:
        yield name, value
        converting.advance(value.nbytes)
