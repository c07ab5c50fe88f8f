"""What the converters of this plugin do when `cosmos convert` and `cosmos export` call them."""

from __future__ import annotations

from cosmos_core.distributed import dtype
from cosmos_core.errors import UserError
from cosmos_core.plugin import Conversion
from cosmos_vlm.checkpoints.export import export_adapter, export_weights
from cosmos_vlm.checkpoints.merge import merge_onto_tower
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.weights import CONFIGS, snapshot

__all__ = ["export", "merge"]


def merge(request: Conversion) -> dict[str, str]:
    """A published generator's understanding tower onto a Qwen3-VL model."""
    return merge_onto_tower(
        request.source,
        request.output,
        backbone=request.options.get("backbone") or "",
        vision=request.options.get("vision") or "auto",
    )


def export(request: Conversion) -> dict[str, str]:
    """A run's checkpoint to a folder that transformers loads."""
    model = request.model
    if not isinstance(model, VlmConfig):
        raise UserError("only a run's checkpoint can be exported: its config.toml names the backbone")
    backbone = snapshot(model.backbone.model_name, [*CONFIGS])
    if request.options.get("adapter"):
        return export_adapter(request.source, request.output, model.backbone.model_name)
    wanted = dtype(request.options.get("dtype") or model.precision)
    return export_weights(request.source, request.output, backbone, wanted, verify=bool(request.options.get("verify")))
