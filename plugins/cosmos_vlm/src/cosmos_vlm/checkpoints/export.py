"""A trained reasoner as a Hugging Face folder, or its adapters as PEFT loads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from cosmos_core.checkpoint import (
    DcpWeights,
    Entry,
    FrozenBase,
    StoredWeights,
    atomic_directory,
    base_of_adapters,
    write_shards,
)
from cosmos_core.optim import is_lora
from cosmos_core.strict_json import read_object
from cosmos_vlm.catalog import CONFIGS, pinned
from cosmos_vlm.processor_files import PixelLimits, write_processor

__all__ = ["copy_configs", "export_adapter", "export_weights"]

PEFT = "base_model.model."
SNAPSHOTS = "snapshots"
"""Folder of the Hub cache whose parts are called after commits."""


def copy_configs(backbone: Path, folder: Path, dtype: torch.dtype, num_layers: int | None = None) -> None:
    """Configuration, tokenizer and processor files; the configuration says the weights' dtype.

    num_layers: of a language model that is cut.
    """
    for path in sorted({path for pattern in CONFIGS for path in backbone.glob(pattern)}):
        if not path.name.endswith(".safetensors.index.json"):
            shutil.copyfile(path, folder / path.name)
    config = read_object(folder / "config.json")
    config.pop("torch_dtype", None)
    config["dtype"] = str(dtype).removeprefix("torch.")
    if num_layers is not None:
        config["text_config"]["num_hidden_layers"] = num_layers
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def export_weights(
    source: StoredWeights,
    output: Path,
    backbone: Path,
    limits: PixelLimits,
    dtype: torch.dtype,
    *,
    num_layers: int | None = None,
    verify: bool,
) -> dict[str, Any]:
    """Write whole weights beside the backbone's other files. Returns facts to print. Raises UserError.

    limits: with which they were trained, for the processor files. num_layers: as in `copy_configs`.
    """
    entries = {name: Entry(source, name, dtype) for name in source.infos}
    with atomic_directory(output, "nothing was exported") as hidden:
        written = write_shards(hidden, "model", entries, verify=verify)
        copy_configs(backbone, hidden, dtype, num_layers)
        write_processor(hidden, limits)
    return {
        "exported": str(output),
        "tensors": len(source.infos),
        "shards": written.files,
        "verified": verify,
    }


def export_adapter(
    checkpoint: Path, output: Path, weights: str, dtype: torch.dtype | None, *, verify: bool
) -> dict[str, Any]:
    """Write the adapters of an ``iter_<N>`` folder; returns facts to print. dtype: None keeps theirs.

    weights: what the run calls the folder or repository whose weights it adapts. Raises UserError as
    `base_of_adapters` does, and for adapters of fresh weights.
    """
    adapters = DcpWeights(checkpoint / "model", "live")
    base = base_of_adapters(checkpoint, adapters)
    stored = {name: info for name, info in adapters.infos.items() if is_lora(name)}
    entries = {PEFT + name: Entry(adapters, name, dtype or info.dtype) for name, info in stored.items()}
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        **_adapted(base, weights),
        "r": base.rank,
        "lora_alpha": base.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rpartition(".lora_")[0] for name in stored}),
    }
    with atomic_directory(output, "nothing was exported") as hidden:
        write_shards(hidden, "adapter_model", entries, verify=verify)
        (hidden / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return {
        "exported": str(output),
        "adapted layers": len(entries) // 2,
        "rank": base.rank,
        "alpha": base.alpha,
        "verified": verify,
        "load": f'PeftModel.from_pretrained(model, "{output}")',
    }


def _adapted(base: FrozenBase, weights: str) -> dict[str, Any]:
    """Where peft finds what the adapters were trained on: the folder, or in the Hub cache its repository and commit."""
    folder = Path(base.folder)
    if folder.parent.name != SNAPSHOTS:
        return {"base_model_name_or_path": str(folder)}
    return {"base_model_name_or_path": pinned(weights)[0], "revision": folder.name}
