"""Export of adapters without base weights, for `load_lora_adapter` of diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from cosmos_core.checkpoint import (
    Entry,
    StoredWeights,
    atomic_directory,
    base_of_adapters,
    write_shards,
)
from cosmos_core.optim import is_lora
from cosmos_vfm.checkpoints.names import to_diffusers

__all__ = ["BASE_METADATA", "export_adapter"]

PREFIX = "transformer."
STEM = "pytorch_lora_weights"
BASE_METADATA = "cosmos_base"
"""Key in the file's metadata: folder and digest of the weights that the adapters were trained on."""


def export_adapter(
    checkpoint: Path, weights: StoredWeights, output: Path, dtype: torch.dtype | None, *, verify: bool
) -> dict[str, Any]:
    """Write the adapters of an ``iter_<N>`` folder. Returns facts to print. dtype: None keeps that of `weights`.

    Raises UserError as `base_of_adapters` does.
    """
    base = base_of_adapters(checkpoint, weights)
    entries = {
        PREFIX + to_diffusers(name): Entry(weights, name, dtype or info.dtype)
        for name, info in weights.infos.items()
        if is_lora(name)
    }
    targets = sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in entries})
    settings = {"r": base.rank, "lora_alpha": base.alpha, "target_modules": targets}
    metadata = {
        "lora_adapter_metadata": json.dumps({PREFIX + key: value for key, value in settings.items()}, sort_keys=True),
        BASE_METADATA: json.dumps({"folder": base.folder, "digest": base.digest}),
    }
    with atomic_directory(output, "nothing was exported") as hidden:
        write_shards(hidden, STEM, entries, verify=verify, metadata=metadata)
    return {
        "exported": str(output),
        "adapted layers": len(entries) // 2,
        "rank": base.rank,
        "alpha": base.alpha,
        "verified": verify,
        "load": f'transformer.load_lora_adapter("{output}", weight_name="{STEM}.safetensors")',
    }
