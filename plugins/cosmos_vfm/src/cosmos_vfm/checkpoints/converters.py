"""Converters of this plugin, called by `cosmos convert` and `cosmos export`."""

from __future__ import annotations

from typing import Any

from cosmos_core.checkpoint import DcpWeights
from cosmos_core.distributed import dtype
from cosmos_core.plan import BASE_FILE
from cosmos_core.plugin import Conversion
from cosmos_vfm.checkpoints.adapter import export_adapter
from cosmos_vfm.checkpoints.convert import to_dcp
from cosmos_vfm.checkpoints.export import ExportRequest, export_weights
from cosmos_vfm.config import VfmConfig

__all__ = ["convert", "export"]


def convert(request: Conversion) -> dict[str, Any]:
    """Published layout to a base checkpoint."""
    return to_dcp(request.source, request.output, source_revision=request.source_revision)


def export(request: Conversion) -> dict[str, Any]:
    """Checkpoint of a run, or a base, to a diffusers folder. Weights of a run are written in its model.precision."""
    model = request.model if isinstance(request.model, VfmConfig) else None
    dtype_name, verify = request.options.get("dtype"), bool(request.options.get("verify"))
    if request.options.get("adapter"):
        weights = DcpWeights(request.source / "model", request.options.get("weights", ""))
        return export_adapter(
            request.source, weights, request.output, dtype(dtype_name) if dtype_name else None, verify=verify
        )
    dtype_name = dtype_name or (model.precision if model is not None else "")
    has_base = request.base is not None and (request.base / BASE_FILE).is_file()
    return export_weights(
        ExportRequest(
            checkpoint=request.source,
            output=request.output,
            base=request.base if has_base else None,
            format=request.options.get("format") or "diffusers",
            weights=request.options.get("weights", ""),
            scale=model.lora_scale if model is not None else None,
            model=model,
            dtype=dtype(dtype_name) if dtype_name else None,
            verify=verify,
        )
    )
