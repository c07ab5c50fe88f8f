"""Adapters alone, as diffusers' `load_lora_adapter` takes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from cosmos_core.checkpoint import AdapterBase, DcpWeights
from cosmos_core.errors import UserError
from cosmos_vfm.checkpoints.names import to_diffusers

__all__ = ["export_adapter"]

PREFIX = "transformer."
FILE = "pytorch_lora_weights.safetensors"


def export_adapter(checkpoint: Path, output: Path) -> dict[str, str]:
    """Write the adapters of an ``iter_<N>`` folder; returns facts to print. Raises UserError when there are none."""
    if output.exists():
        raise UserError(f"{output} exists already; nothing was exported")
    base = AdapterBase.read(checkpoint)
    if base is None:
        raise UserError(f"{checkpoint} holds whole weights, no adapters; leave --adapter out")
    weights = DcpWeights(checkpoint / "model", "live")
    tensors = {PREFIX + to_diffusers(name): value for name, value in weights.read(list(weights.infos)).items()}
    targets = sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in tensors})
    settings = {"r": base.rank, "lora_alpha": base.alpha, "target_modules": targets}
    hidden = output.with_name(f".{output.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    described = json.dumps({PREFIX + key: value for key, value in settings.items()}, sort_keys=True)
    save_file(tensors, hidden / FILE, metadata={"format": "pt", "lora_adapter_metadata": described})
    hidden.rename(output)
    return {
        "exported": str(output),
        "adapters": f"{len(tensors) // 2} layers, rank {base.rank}, alpha {base.alpha}",
        "load": f'transformer.load_lora_adapter("{output}", weight_name="{FILE}")',
    }
