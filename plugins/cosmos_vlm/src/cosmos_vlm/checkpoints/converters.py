"""Converters of this plugin, called by `cosmos convert` and `cosmos export`."""

from __future__ import annotations

from typing import Any

from cosmos_core.checkpoint import trained_weights
from cosmos_core.distributed import dtype
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin import Conversion
from cosmos_vlm.checkpoints.export import export_adapter, export_weights
from cosmos_vlm.checkpoints.merge import merge_onto_tower
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.processor_files import pixel_limits
from cosmos_vlm.weights import config_folder

__all__ = ["export", "merge"]

FORMAT = "hf"


def merge(request: Conversion) -> dict[str, Any]:
    """A published generator's understanding tower onto a Qwen3-VL model."""
    return merge_onto_tower(
        request.source,
        request.output,
        backbone=request.options.get("backbone") or "",
        vision=request.options.get("vision") or "auto",
    )


def export(request: Conversion) -> dict[str, Any]:
    """A run's checkpoint to a folder that transformers loads."""
    model = request.model
    if not isinstance(model, VlmConfig):
        raise UserError("only a run's checkpoint can be exported: its config.toml names the backbone")
    target_format = request.options.get("format") or FORMAT
    if target_format != FORMAT:
        problem = Problem(
            message=f"there is no format '{target_format}'", hint=f"leave out --format, or use '{FORMAT}'"
        )
        raise UserError("a reasoner can be exported for transformers only; nothing was exported", [problem])
    kind, verify = request.options.get("dtype"), bool(request.options.get("verify"))
    if request.options.get("adapter"):
        weights = model.backbone.safetensors_path or model.backbone.model_name
        return export_adapter(request.source, request.output, weights, dtype(kind) if kind else None, verify=verify)
    backbone = config_folder(model.backbone)
    source = trained_weights(request.source, request.options.get("weights", ""), model.lora_scale)
    precision, limits = dtype(kind or model.precision), pixel_limits(model, backbone)
    layers = model.num_layers
    return export_weights(source, request.output, backbone, limits, precision, num_layers=layers, verify=verify)
