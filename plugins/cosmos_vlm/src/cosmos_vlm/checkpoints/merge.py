"""The understanding tower of a published generator on a Qwen3-VL vision tower.

See docs/checkpoints.md, Merging onto a Qwen3-VL tower.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from cosmos_core.checkpoint import Entry, SafetensorsWeights, atomic_directory, fingerprint, write_shards
from cosmos_core.errors import Problem, UserError
from cosmos_vlm.architecture import architecture_of
from cosmos_vlm.catalog import CONFIGS
from cosmos_vlm.checkpoints.export import copy_configs
from cosmos_vlm.weights import missing_files, read_index, snapshot

__all__ = ["merge_onto_tower"]

BACKBONES = {4096: "Qwen/Qwen3-VL-8B-Instruct", 5120: "Qwen/Qwen3-VL-32B-Instruct"}
"""By the language model's hidden size."""
REPORT = "merge_report.json"
"""Where every tensor came from, and which of the generator's are left out."""
HEAD = "lm_head.weight"

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
class _Tensor:
    """A tensor to write. kind: 'language' or 'visual'. place: its source in the report. folder: of the weights."""

    entry: Entry
    kind: str
    place: str
    folder: Path


def _reasoner_name(name: str) -> str | None:
    """Qwen3-VL's name of a generator's tensor; None for tensors of generation."""
    name = name.removeprefix("model.net.").removeprefix("net.").removeprefix("transformer.")
    if name.startswith("language_model."):
        name = name.removeprefix("language_model.").removeprefix("model.")
    if _GENERATOR.search(name) or name.startswith("visual."):
        return None
    if name.startswith("lm_head."):
        return name
    return "model.language_model." + re.sub(
        r"(self_attn\.)(\w+)(\.)", lambda match: match[1] + _ATTENTION.get(match[2], match[2]) + match[3], name
    )


def merge_onto_tower(source: Path, output: Path, *, backbone: str, vision: str) -> dict[str, Any]:
    """Write a folder that transformers loads as Qwen3-VL. Returns facts to print.

    Memory holds a few tensors at a time. An interrupted merge continues with the file it had reached.

    backbone: folder or Hub name of the Qwen3-VL model, by the language model's size when empty. vision: 'qwen' takes
    its tower, 'cosmos' the source's ``vision_encoder/``, 'auto' the latter if there is one. Raises UserError when a
    tensor is missing, left over or of another shape.
    """
    language, dropped = _language(source)
    name = backbone or _backbone_of(language, source)
    folder = snapshot(name, CONFIGS)
    expected = _expected(folder)
    visual, unused = _visual(source, folder, name, vision)
    tensors, dropped = {**language, **visual}, [*dropped, *unused]
    if HEAD not in expected and HEAD in tensors:
        dropped.append(tensors.pop(HEAD).place)
    _check_fit(tensors, expected, source)
    with atomic_directory(output, "nothing was converted", made_of=_digest(tensors)) as hidden:
        entries = {name: tensor.entry for name, tensor in tensors.items()}
        written = write_shards(hidden, "model", entries, verify=True, resume=True)
        copy_configs(folder, hidden, torch.bfloat16)
        report = {"written": {name: tensor.place for name, tensor in tensors.items()}, "dropped": dropped}
        (hidden / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    counts = Counter(tensor.kind for tensor in tensors.values())
    tower = next(tensor.place for tensor in tensors.values() if tensor.kind == "visual")
    return {
        "reasoner": str(output),
        "language": str(source),
        "language tensors": counts["language"],
        "visual": tower,
        "visual tensors": counts["visual"],
        "dropped tensors": len(dropped),
        "shards": written.files,
        "shards of an interrupted merge": written.kept,
        "report": str(output / REPORT),
    }


def _digest(tensors: Mapping[str, _Tensor]) -> str:
    """Of the tensors to write and of the weights they come from."""
    places = [f"{name} {tensor.place}" for name, tensor in tensors.items()]
    sources = dict.fromkeys(tensor.folder for tensor in tensors.values())
    return sha256("\n".join([*places, *map(fingerprint, sources)]).encode()).hexdigest()


def _language(source: Path) -> tuple[dict[str, _Tensor], list[str]]:
    """The understanding tower's tensors, and the places of the others."""
    folder = source / "transformer" if (source / "transformer").is_dir() else source
    weights = _weights(folder, lambda name: _reasoner_name(name) is not None)
    tensors: dict[str, _Tensor] = {}
    dropped: list[str] = []
    for name in weights.infos:
        ours, place = _reasoner_name(name), f"{folder}: {name}"
        if ours is None:
            dropped.append(place)
        else:
            tensors[ours] = _Tensor(Entry(weights, name, torch.bfloat16), "language", place, folder)
    return tensors, dropped


def _weights(folder: Path, needs: Callable[[str], bool]) -> SafetensorsWeights:
    """A folder's safetensors. Raises UserError when a file with needed tensors is missing. needs: by tensor name."""
    problems = missing_files(folder, needs)
    if problems:
        raise UserError("weights are missing; nothing was converted", problems)
    return SafetensorsWeights(folder)


def _backbone_of(language: Mapping[str, _Tensor], source: Path) -> str:
    embedding = language.get("model.language_model.embed_tokens.weight")
    hidden = embedding.entry.source.infos[embedding.entry.name].shape[1] if embedding is not None else 0
    if hidden not in BACKBONES:
        problem = Problem(message=f"its hidden size is {hidden}", file=str(source), hint="name one with --backbone")
        raise UserError("no Qwen3-VL model is known for this generator; nothing was converted", [problem])
    return BACKBONES[hidden]


def _visual(source: Path, folder: Path, name: str, vision: str) -> tuple[dict[str, _Tensor], list[str]]:
    """The vision tower's tensors, and the places of tensors that a generator's own tower has besides."""
    own = source / "vision_encoder"
    if vision == "cosmos" and not own.is_dir():
        problem = Problem(message=f"no such folder: {own}", hint="use --vision qwen")
        raise UserError("the checkpoint ships no vision tower of its own; nothing was converted", [problem])
    if vision != "qwen" and own.is_dir():
        weights = _weights(own, lambda key: key.startswith(_TOWER))
        tensors = {
            f"model.visual.{key}": _Tensor(Entry(weights, key, torch.bfloat16), "visual", str(own), own)
            for key in weights.infos
            if key.startswith(_TOWER)
        }
        return tensors, [f"{own}: {key}" for key in weights.infos if not key.startswith(_TOWER)]
    tower = snapshot(name, _tower_files(folder))
    weights = _weights(tower, lambda key: key.startswith("model.visual."))
    tensors = {
        key: _Tensor(Entry(weights, key, torch.bfloat16), "visual", name, tower)
        for key in weights.infos
        if key.startswith("model.visual.")
    }
    return tensors, []


def _tower_files(folder: Path) -> list[str]:
    """The shards that hold a backbone's tower; the others are many gigabytes."""
    places = read_index(folder)
    return sorted({file for name, file in places.items() if name.startswith("model.visual.")}) or ["*.safetensors"]


def _expected(folder: Path) -> dict[str, torch.Size]:
    """Names and shapes of the Qwen3-VL model, from its configuration alone."""
    from transformers import Qwen3VLForConditionalGeneration

    config = architecture_of(folder)
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config)
    return {name: value.shape for name, value in model.named_parameters()}


def _check_fit(tensors: Mapping[str, _Tensor], expected: Mapping[str, torch.Size], source: Path) -> None:
    shapes = {name: tensor.entry.source.infos[tensor.entry.name].shape for name, tensor in tensors.items()}
    groups = {
        "are missing": [name for name in expected if name not in shapes],
        "are unknown to Qwen3-VL": [name for name in shapes if name not in expected],
        "have another shape": [name for name in expected if name in shapes and shapes[name] != expected[name]],
    }
    problems = [
        Problem(message=f"{len(names)} tensors {fault}: {', '.join(sorted(names)[:4])}", file=str(source))
        for fault, names in groups.items()
        if names
    ]
    if problems:
        raise UserError("the generator's language model does not fit the backbone; nothing was converted", problems)
