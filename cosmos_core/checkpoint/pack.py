"""Makes a copy of a checkpoint that needs no base: what was left to the base is read from there, tensor by tensor."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from attrs import evolve

from cosmos_core.checkpoint.atomic_directory import atomic_directory
from cosmos_core.checkpoint.load import load_component
from cosmos_core.checkpoint.reading import groups
from cosmos_core.checkpoint.safetensors import GROUP_BYTES
from cosmos_core.checkpoint.state import AVERAGED, LIVE
from cosmos_core.checkpoint.stream import DcpWriter, stored_tensors
from cosmos_core.checkpoint.weights import StoredWeights, whole_weights
from cosmos_core.console import Progress, progress
from cosmos_core.distributed.runtime import local_mesh
from cosmos_core.errors import UserError
from cosmos_core.plan.checkpoint import damaged, gone
from cosmos_core.plan.frozen_base import FrozenBase
from cosmos_core.plan.manifest import MANIFEST, FileRecord, SameContent, checksums, verify, write_manifest
from cosmos_core.plan.paths import ADAPTER_BASE, FROZEN_BASE, MODEL

__all__ = ["pack"]

UNDONE = "nothing was packed"


def pack(checkpoint: Path, output: Path, folder: Path | None = None) -> dict[str, Any]:
    """Write `output`, a whole copy of an ``iter_<N>``; it appears when it is complete. Returns facts to print.

    folder: where the base is now, if not where the checkpoint says; a run, if one of its checkpoints is the base.

    The copy notes its base, so that a run may leave frozen weights to it again. Memory holds a few tensors. Raises
    UserError when the checkpoint is damaged, when the base is missing or has changed, or when a run that goes on
    removed the checkpoint or wrote it again.
    """
    try:
        return _pack(checkpoint, output, folder)
    except UserError as error:
        if checkpoint.is_dir():
            raise
        raise gone(checkpoint, UNDONE) from error


def _pack(checkpoint: Path, output: Path, folder: Path | None) -> dict[str, Any]:
    content, base = SameContent(checkpoint), FrozenBase.read(checkpoint)
    if base is not None and folder is not None:
        base = base.moved(folder)
    whole = whole_weights(checkpoint, "live", base)
    if wrong := verify(checkpoint):
        raise damaged(checkpoint, wrong, UNDONE, "pack another one")
    others = [path for path in checkpoint.rglob("*") if path.is_file() and _is_copied(path.relative_to(checkpoint))]
    with (
        atomic_directory(output, UNDONE) as hidden,
        progress(f"packing {checkpoint.name}", unit="bytes") as packing,
        content.reading(),
    ):
        packing.total = sum(path.stat().st_size for path in others)
        for path in others:
            target = hidden / path.relative_to(checkpoint)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            packing.advance(target.stat().st_size)
        writer = DcpWriter(hidden / MODEL)
        writer.write(0, _tensors(checkpoint / MODEL, whole, packing), of="")
        writer.finish(1)
        if base is not None:
            evolve(base, left_out=False).write(hidden)
        write_manifest(hidden, {**checksums(checkpoint), **_written(hidden, packing)})
    return {
        "checkpoint": str(output),
        "tensors": len(whole.infos),
        "of the base": len(whole.infos) - len(_live(checkpoint / MODEL)) if base else 0,
        **({"base": base.folder} if base else {}),
    }


def _is_copied(name: Path) -> bool:
    return name.parts[0] not in (MODEL, MANIFEST, FROZEN_BASE, ADAPTER_BASE)


def _live(folder: Path) -> list[str]:
    return [name for name in stored_tensors(folder) if name.startswith(LIVE)]


def _tensors(folder: Path, whole: StoredWeights, packing: Progress) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the network, then the averages in `folder`."""
    sizes = {name: info.shape.numel() * info.dtype.itemsize for name, info in whole.infos.items()}
    averages = {name: info for name, info in stored_tensors(folder).items() if name.startswith(AVERAGED)}
    average_sizes = {name: shape.numel() * dtype.itemsize for name, (shape, dtype) in averages.items()}
    packing.total += 2 * sum((*sizes.values(), *average_sizes.values()))
    for names in groups(sizes, GROUP_BYTES):
        for name, value in whole.read(names).items():
            yield f"{LIVE}{name}", value
            packing.advance(value.nbytes)
    for names in groups(average_sizes, GROUP_BYTES) if averages else ():
        state = {name: torch.empty(averages[name][0], dtype=averages[name][1]) for name in names}
        load_component(folder, state, local_mesh(torch.device("cpu")))
        for name, value in state.items():
            yield name, value
            packing.advance(value.nbytes)


def _written(hidden: Path, packing: Progress) -> dict[str, FileRecord]:
    """Checksums of the new files of the network."""
    files = sorted((hidden / MODEL).iterdir())
    return {str(path.relative_to(hidden)): FileRecord.of(path, packing) for path in files}
