"""The understanding tower of a published generator on a Qwen3-VL vision tower (spec/vlm.md 9)."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from cosmos_core.checkpoint import Entry, SafetensorsWeights, write_shards
from cosmos_core.errors import Problem, UserError
from cosmos_vlm.checkpoints.export import copy_configs
from cosmos_vlm.weights import CONFIGS, snapshot

__all__ = ["merge_onto_tower", "reasoner_name"]

BACKBONES = {4096: "Qwen/Qwen3-VL-8B-Instruct", 5120: "Qwen/Qwen3-VL-32B-Instruct"}
"""By the language model's hidden size."""
REPORT = "merge_report.json"

_GENERATOR = re.compile(
    r"_moe_gen|\.add_[qkv]_proj\.|\.to_add_out\.|\.norm_added_[qk]\.|k_norm_und_for_gen"
    r"|^(proj_in|proj_out|time_embedder|action|audio|sound|vae2llm|llm2vae|llm2action|llm2sound)"
)
_ATTENTION = {
    "to_q": "q_proj",
    "to_k": "k_proj",
    "to_v": "v_proj",
    "to_out": "o_proj",
    "norm_q": "q_norm",
    "norm_k": "k_norm",
}
_TOWER = ("blocks.", "merger.", "deepstack_merger_list.", "patch_embed.", "pos_embed.")


@frozen
class _Origin:
    """kind: 'language' or 'visual'. place: what the report says."""

    entry: Entry
    kind: str
    place: str


def reasoner_name(name: str) -> str | None:
    """A generator's tensor as Qwen3-VL calls it; None for what belongs to generation."""
    name = name.removeprefix("model.net.").removeprefix("net.").removeprefix("transformer.")
    if name.startswith("language_model."):
        name = name.removeprefix("language_model.").removeprefix("model.")
    if _GENERATOR.search(name) or name.startswith("visual."):
        return None
    if name.startswith("lm_head."):
        return name
    return "model.language_model." + re.sub(
        r"(self_attn\.)(\w+)(\.)", lambda found: found[1] + _ATTENTION.get(found[2], found[2]) + found[3], name
    )


def merge_onto_tower(source: Path, output: Path, *, backbone: str, vision: str) -> dict[str, str]:
    """Write a folder that transformers loads as Qwen3-VL; memory holds one shard. Returns facts to print.

    backbone: folder or Hub name of the Qwen3-VL model, by the language model's size when empty. vision: 'qwen' takes
    its tower, 'cosmos' the source's ``vision_encoder/``, 'auto' the latter if there is one. Raises UserError when a
    tensor is missing, left over or of another shape.
    """
    if output.exists():
        raise UserError(f"{output} exists already; nothing was converted")
    language, dropped = _language(source)
    name = backbone or _backbone_of(language, source)
    folder = snapshot(name, CONFIGS)
    origins = {**language, **_visual(source, folder, name, vision)}
    expected = _expected(folder)
    tied = "lm_head.weight" not in expected
    if tied:
        dropped += "lm_head.weight" in origins
        origins.pop("lm_head.weight", None)
    _refuse_misfits(origins, expected, source)
    hidden = output.with_name(f".{output.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    shards = write_shards(hidden, "model", {name: origin.entry for name, origin in origins.items()})
    copy_configs(folder, hidden, torch.bfloat16)
    places = {name: origin.place for name, origin in origins.items()}
    (hidden / REPORT).write_text(json.dumps(places, indent=2) + "\n", encoding="utf-8")
    hidden.rename(output)
    counts = Counter(origin.kind for origin in origins.values())
    tower = next(origin.place for origin in origins.values() if origin.kind == "visual")
    return {
        "reasoner": str(output),
        "language": f"{counts['language']} tensors of {source}",
        "visual": f"{counts['visual']} tensors of {tower}",
        "dropped": f"{dropped} tensors of the generator",
        "shards": str(shards),
        "report": str(output / REPORT),
    }


def _language(source: Path) -> tuple[dict[str, _Origin], int]:
    folder = source / "transformer" if (source / "transformer").is_dir() else source
    weights = SafetensorsWeights(folder)
    names = {name: reasoner_name(name) for name in weights.infos}
    found = {
        ours: _Origin(Entry(weights, name, torch.bfloat16), "language", f"{folder}: {name}")
        for name, ours in names.items()
        if ours is not None
    }
    return found, len(names) - len(found)


def _backbone_of(language: Mapping[str, _Origin], source: Path) -> str:
    embedding = language.get("model.language_model.embed_tokens.weight")
    hidden = embedding.entry.source.infos[embedding.entry.name].shape[1] if embedding is not None else 0
    if hidden not in BACKBONES:
        problem = Problem(message=f"its hidden size is {hidden}", file=str(source), hint="name one with --backbone")
        raise UserError("no Qwen3-VL model is known for this generator; nothing was converted", [problem])
    return BACKBONES[hidden]


def _visual(source: Path, folder: Path, name: str, vision: str) -> dict[str, _Origin]:
    own = source / "vision_encoder"
    if vision == "cosmos" and not own.is_dir():
        problem = Problem(message=f"no such folder: {own}", hint="use --vision qwen")
        raise UserError("the checkpoint ships no vision tower of its own; nothing was converted", [problem])
    if vision != "qwen" and own.is_dir():
        weights = SafetensorsWeights(own)
        return {
            f"model.visual.{key}": _Origin(Entry(weights, key, torch.bfloat16), "visual", str(own))
            for key in weights.infos
            if key.startswith(_TOWER)
        }
    weights = SafetensorsWeights(snapshot(name, _tower_files(folder)))
    return {
        key: _Origin(Entry(weights, key, torch.bfloat16), "visual", name)
        for key in weights.infos
        if key.startswith("model.visual.")
    }


def _tower_files(folder: Path) -> list[str]:
    """Of a backbone only the shards that hold its tower; the others are many gigabytes."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return ["*.safetensors"]
    places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    return sorted({file for name, file in places.items() if name.startswith("model.visual.")})


def _expected(folder: Path) -> dict[str, torch.Size]:
    """Names and shapes of the Qwen3-VL model, from its configuration alone."""
    from transformers import AutoConfig, Qwen3VLForConditionalGeneration

    config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.model_type != "qwen3_vl":
        raise UserError(f"{folder} is a '{config.model_type}' model, not a qwen3_vl one; nothing was converted")
    with torch.device("meta"):
        model: Any = Qwen3VLForConditionalGeneration(config)
    return {name: value.shape for name, value in model.named_parameters()}


def _refuse_misfits(origins: Mapping[str, _Origin], expected: Mapping[str, torch.Size], source: Path) -> None:
    shapes = {name: origin.entry.source.infos[origin.entry.name].shape for name, origin in origins.items()}
    groups = {
        "are missing": [name for name in expected if name not in shapes],
        "are unknown to Qwen3-VL": [name for name in shapes if name not in expected],
        "have another shape": [name for name in expected if name in shapes and shapes[name] != expected[name]],
    }
    problems = [
        Problem(message=f"{len(names)} tensors {what}: {', '.join(sorted(names)[:4])}", file=str(source))
        for what, names in groups.items()
        if names
    ]
    if problems:
        raise UserError("the generator's language model does not fit the backbone; nothing was converted", problems)
