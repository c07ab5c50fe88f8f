"""A trained or base checkpoint -> a folder that others load: diffusers', a bare one, or adapters alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from cosmos_core.checkpoint import DcpWeights, Entry, StoredWeights, trained_weights, write_shards
from cosmos_core.errors import UserError
from cosmos_core.plan import BASE_FILE
from cosmos_vfm.checkpoints.components import carry_over, write_json
from cosmos_vfm.checkpoints.describe import to_diffusers_config
from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.tiers import NetworkConfig

__all__ = ["ExportRequest", "export_weights"]


@frozen(kw_only=True)
class ExportRequest:
    """checkpoint: folder with ``model/``. base: folder of the converted base, for its configuration and components.

    layout: 'diffusers', or 'hf' for one folder of ``model.net.<name>`` tensors. weights: 'ema' (live ones where no
    average is kept) or 'live'. dtype: of the floating tensors; None keeps theirs.
    """

    checkpoint: Path
    output: Path
    network: NetworkConfig | None
    base: Path | None = None
    layout: str = "diffusers"
    weights: str = "ema"
    dtype: torch.dtype | None = None
    verify: bool = False


def export_weights(request: ExportRequest) -> dict[str, str]:
    """Write the folder under a hidden name and rename it; memory holds one shard. Returns facts to print."""
    if request.output.exists():
        raise UserError(f"{request.output} exists already; nothing was exported")
    source = trained_weights(request.checkpoint, request.weights)
    hidden = request.output.with_name(f".{request.output.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    bare = request.layout == "hf"
    folder = hidden if bare else hidden / "transformer"
    folder.mkdir(parents=True)
    entries = {_written(name, bare): _entry(source, name, request.dtype) for name in source.infos}
    stem = "model" if bare else "diffusion_pytorch_model"
    shards = write_shards(folder, stem, entries, verify=request.verify)
    record = _base_record(request.base)
    config = record.get("config") or (to_diffusers_config(request.network) if request.network else {})
    if bare:
        config = {**config, "model_type": "cosmos3_omni"}
    write_json(folder / "config.json", config)
    carried = carry_over(request.base, hidden)
    hidden.rename(request.output)
    return {
        "exported": str(request.output),
        "weights": _described(source),
        "shards": str(shards) + (", verified" if request.verify else ""),
        "components": ", ".join(carried) or "none",
    }


def _written(name: str, bare: bool) -> str:
    return f"model.net.{name}" if bare else to_diffusers(name)


def _entry(source: StoredWeights, name: str, dtype: torch.dtype | None) -> Entry:
    stored = source.infos[name].dtype
    return Entry(source, name, dtype if dtype is not None and stored.is_floating_point else stored)


def _described(source: StoredWeights) -> str:
    if isinstance(source, DcpWeights):
        return f"{source.averaged} averaged, {len(source.infos) - source.averaged} live tensors"
    return f"{len(source.infos)} tensors of the base with the adapters merged"


def _base_record(base: Path | None) -> dict[str, Any]:
    """What the conversion wrote down of the base, {} if there was none."""
    path = base / BASE_FILE if base is not None else None
    return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}
