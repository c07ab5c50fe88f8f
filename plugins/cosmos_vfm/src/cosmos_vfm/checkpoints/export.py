"""A trained or base checkpoint -> a folder that others load: diffusers', or a bare one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from cosmos_core.checkpoint import (
    DcpWeights,
    Entry,
    OverlaidWeights,
    StoredWeights,
    trained_weights,
    whole_folder,
    write_shards,
)
from cosmos_core.plan import read_base
from cosmos_vfm.checkpoints.components import carry_over, write_json
from cosmos_vfm.checkpoints.describe import Shapes, describe, matching_size, network_of
from cosmos_vfm.checkpoints.framework import model_section
from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.sizes import MODEL_SIZES

__all__ = ["ExportRequest", "export_weights"]


@frozen(kw_only=True)
class ExportRequest:
    """checkpoint: folder with ``model/``. base: folder of the converted base, for heads that the run did not build, its
    configuration and its components.

    layout: 'diffusers', or 'hf' for one folder of ``model.net.<name>`` tensors that cosmos-framework loads. weights:
    'ema' (live ones where no average is kept) or 'live'. scale: factor of adapters that were trained beside other
    weights. model: what the weights were trained with, if they were. dtype: of the floating tensors; None keeps theirs.
    """

    checkpoint: Path
    output: Path
    base: Path | None = None
    layout: str = "diffusers"
    weights: str = ""
    scale: float | None = None
    model: VfmConfig | None = None
    dtype: torch.dtype | None = None
    verify: bool = False


def export_weights(request: ExportRequest) -> dict[str, str]:
    """Write the folder under a hidden name and rename it; memory holds a few tensors. Returns facts to print."""
    trained = trained_weights(request.checkpoint, request.weights, request.scale)
    source, heads = _with_heads(trained, request)
    bare = request.layout == "hf"
    entries = {_written(name, bare): _entry(source, name, request.dtype) for name in source.infos}
    shapes = {name: info.shape for name, info in source.infos.items()}
    config = describe(shapes, _base_config(request.base))
    with whole_folder(request.output, "nothing was exported") as hidden:
        folder = hidden if bare else hidden / "transformer"
        folder.mkdir(exist_ok=True)
        stem = "model" if bare else "diffusion_pytorch_model"
        written = write_shards(folder, stem, entries, verify=request.verify)
        write_json(folder / "config.json", _bare_config(config, shapes, request, entries) if bare else config)
        carried = carry_over(request.base, hidden, shift=(request.model or VfmConfig()).sampling.shift)
    return {
        "exported": str(request.output),
        "weights": _described(trained) + (f", {heads} of the base's other heads" if heads else ""),
        "shards": str(written.files) + (", verified" if request.verify else ""),
        "components": ", ".join(carried) or "none",
    }


def _with_heads(trained: StoredWeights, request: ExportRequest) -> tuple[StoredWeights, int]:
    """With the base's tensors that the run did not build (action and sound), and how many those are."""
    if request.base is None or request.base == request.checkpoint:
        return trained, 0
    whole = OverlaidWeights(trained, DcpWeights(request.base / "model", "live"))
    return whole, len(whole.infos) - len(trained.infos)


def _bare_config(
    config: dict[str, Any], shapes: Shapes, request: ExportRequest, entries: Mapping[str, Entry]
) -> dict[str, Any]:
    """Of cosmos-framework, which reads the section `model`; the sizes beside it are for everybody else."""
    precision = next(entry.dtype for entry in entries.values() if entry.dtype.is_floating_point)
    model_size = matching_size(shapes)
    section = model_section(
        MODEL_SIZES[model_size] if model_size is not None else network_of(shapes),
        config,
        model_size=model_size,
        model=request.model,
        precision=str(precision).removeprefix("torch."),
    )
    return {**config, "model_type": "cosmos3_omni", "model": section}


def _written(name: str, bare: bool) -> str:
    return f"model.net.{name}" if bare else to_diffusers(name)


def _entry(source: StoredWeights, name: str, dtype: torch.dtype | None) -> Entry:
    stored = source.infos[name].dtype
    return Entry(source, name, dtype if dtype is not None and stored.is_floating_point else stored)


def _described(source: StoredWeights) -> str:
    if isinstance(source, DcpWeights):
        return f"{source.averaged} averaged, {len(source.infos) - source.averaged} live tensors"
    return f"{len(source.infos)} tensors of the base with the adapters merged"


def _base_config(base: Path | None) -> dict[str, Any]:
    """The configuration that the conversion wrote down, {} if there was none."""
    config: dict[str, Any] = read_base(base).get("config", {}) if base is not None else {}
    return config
