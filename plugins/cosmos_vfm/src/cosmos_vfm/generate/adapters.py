"""Exported adapters, folded into the weights of a network."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from os.path import isfile
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from cosmos_core.checkpoint import fingerprint, open_safetensors
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.source import Source
from cosmos_core.strict_json import loads
from cosmos_vfm.checkpoints.adapter import BASE_METADATA
from cosmos_vfm.checkpoints.names import from_diffusers
from cosmos_vfm.network import Cosmos3Network

__all__ = ["Adapter", "fold", "parse_adapter", "tell_other_base"]

logger = logging.getLogger(__name__)

FILE = "pytorch_lora_weights.safetensors"
PREFIX = "transformer."
METADATA = "lora_adapter_metadata"
UNUSABLE = "an adapter cannot be used"
MAX_RANK = 2**20
"""Of alpha and of a rank."""


@frozen
class Adapter:
    """A folder of `cosmos export --adapter`, and how strongly it acts."""

    folder: Path
    strength: float

    @property
    def file(self) -> Path:
        """Its weights."""
        return self.folder / FILE


def parse_adapter(text: str) -> Adapter:
    """DIR, or DIR@STRENGTH. Raises UserError when there are no adapters in the folder."""
    folder, at, number = text.rpartition("@")
    try:
        strength = float(number) if at else 1.0
    except ValueError:
        folder, strength = text, 1.0
    adapter = Adapter(Path(folder if at and folder else text), strength)
    if not math.isfinite(strength):
        raise UserError(UNUSABLE, [Problem(message=f"its strength is {number}", key="--adapter")])
    if not isfile(adapter.file):
        hint = "`cosmos export RUN --adapter -o DIR` writes one"
        problem = Problem(message=f"holds no {FILE}", key="--adapter", file=str(adapter.folder), hint=hint)
        raise UserError(UNUSABLE, [problem])
    return adapter


def tell_other_base(adapter: Adapter, source: Source) -> None:
    """Warn when a converted base is not the one that the adapter was trained on; of other sources that is not known."""
    with open_safetensors(adapter.file) as opened:
        base = _described(adapter.file, opened, BASE_METADATA)
    if source.kind == "base" and base.get("digest") and fingerprint(source.folder / "model") != base["digest"]:
        text = "%s was trained on %s; %s holds other weights, which it may not suit"
        logger.warning(text, adapter.folder, base.get("folder", "another base"), source.folder)


def _described(file: Path, opened: Any, name: str) -> dict[str, Any]:
    """An object in the header of a file; {} without one. Raises UserError for anything else."""
    try:
        value = loads((opened.metadata() or {}).get(name, "{}"))
    except ValueError as error:
        value = error
    if not isinstance(value, dict):
        problem = Problem(message=f"its {name} is no JSON object", file=str(file), hint="export the adapters again")
        raise UserError(UNUSABLE, [problem])
    return value


def _factor(adapter: Adapter, settings: Mapping[str, Any]) -> float:
    """Strength x alpha / rank. Raises UserError."""
    alpha, rank = (settings.get(f"{PREFIX}{key}", 1) for key in ("lora_alpha", "r"))
    if not all(isinstance(value, int | float) and 0 < value <= MAX_RANK for value in (alpha, rank)):
        message = f"its alpha is {alpha!r:.80} and its rank {rank!r:.80}, which are no sizes"
        raise UserError(UNUSABLE, [Problem(message=message, file=str(adapter.file), hint="export the adapters again")])
    return adapter.strength * alpha / rank


@torch.no_grad()
def fold(model: Cosmos3Network, adapter: Adapter) -> None:
    """Add strength x alpha / rank x B A to the layers that it adapts, in place.

    Raises UserError when it was made for layers of another size or kind.
    """
    with open_safetensors(adapter.file) as opened:
        settings = _described(adapter.file, opened, METADATA)
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    scale = _factor(adapter, settings)
    parameters, wrong, pairs = dict(model.named_parameters()), [], []
    for name, down in tensors.items():
        if ".lora_A." not in name:
            continue
        up = tensors.get(name.replace(".lora_A.", ".lora_B."))
        layer = _layer(name)
        weight = parameters.get(f"{layer}.weight")
        matrices = up is not None and up.ndim == down.ndim == 2 and up.shape[1] == down.shape[0]
        if up is None or not matrices or weight is None or weight.shape != (up.shape[0], down.shape[1]):
            wrong.append(layer)
        else:
            pairs.append((weight, up, down))
    if wrong or not pairs:
        message = f"{len(wrong)} of its layers are not in the model or of another size: {', '.join(wrong[:3])}"
        message = message if wrong else "holds no adapter"
        hint = "use it with the base that it was trained on"
        problem = Problem(message=message, key="--adapter", file=str(adapter.file), hint=hint)
        raise UserError("an adapter does not fit the weights", [problem])
    for weight, up, down in pairs:
        change = up.to(weight.device, torch.float32) @ down.to(weight.device, torch.float32)
        weight.copy_(weight.float() + scale * change)


def _layer(name: str) -> str:
    """The framework's name of the layer that a tensor adapts; its own name if there is none."""
    stored = name.removeprefix(PREFIX).rpartition(".lora_A.")[0]
    try:
        return from_diffusers(f"{stored}.weight").removesuffix(".weight")
    except KeyError:
        return stored
