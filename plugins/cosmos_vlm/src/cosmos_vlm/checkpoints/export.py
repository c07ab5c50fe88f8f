"""A trained reasoner as a Hugging Face folder, or its adapters as PEFT loads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from cosmos_core.checkpoint import AdapterBase, DcpWeights, Entry, trained_weights, write_shards
from cosmos_core.errors import UserError
from cosmos_vlm.weights import CONFIGS

__all__ = ["copy_configs", "export_adapter", "export_weights"]

PEFT = "base_model.model."


def copy_configs(backbone: Path, folder: Path, dtype: torch.dtype) -> None:
    """Configuration, tokenizer and processor files; the configuration says the weights' dtype."""
    for path in sorted({path for pattern in CONFIGS for path in backbone.glob(pattern)}):
        if not path.name.endswith(".safetensors.index.json"):
            shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    config["dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def export_weights(
    checkpoint: Path, output: Path, backbone: Path, dtype: torch.dtype, *, verify: bool
) -> dict[str, str]:
    """Write under a hidden name and rename; adapters are folded in. Returns facts to print. Raises UserError."""
    if output.exists():
        raise UserError(f"{output} exists already; nothing was exported")
    source = trained_weights(checkpoint, "live")
    hidden = output.with_name(f".{output.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    shards = write_shards(hidden, "model", {name: Entry(source, name, dtype) for name in source.infos}, verify=verify)
    copy_configs(backbone, hidden, dtype)
    hidden.rename(output)
    return {
        "exported": str(output),
        "tensors": str(len(source.infos)),
        "shards": str(shards) + (", verified" if verify else ""),
    }


def export_adapter(checkpoint: Path, output: Path, backbone: str) -> dict[str, str]:
    """Write the adapters of an ``iter_<N>`` folder; returns facts to print. Raises UserError when there are none."""
    if output.exists():
        raise UserError(f"{output} exists already; nothing was exported")
    base = AdapterBase.read(checkpoint)
    if base is None:
        raise UserError(f"{checkpoint} holds whole weights, no adapters; leave --adapter out")
    weights = DcpWeights(checkpoint / "model", "live")
    tensors = {PEFT + name: value for name, value in weights.read(list(weights.infos)).items()}
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": backbone,
        "r": base.rank,
        "lora_alpha": base.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rpartition(".lora_")[0] for name in weights.infos}),
    }
    hidden = output.with_name(f".{output.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    save_file(tensors, hidden / "adapter_model.safetensors", metadata={"format": "pt"})
    (hidden / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    hidden.rename(output)
    return {
        "exported": str(output),
        "adapters": f"{len(tensors) // 2} layers, rank {base.rank}, alpha {base.alpha}",
        "load": f'PeftModel.from_pretrained(model, "{output}")',
    }
