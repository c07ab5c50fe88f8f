"""Exported adapters, folded into the weights of a network."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import torch
from attrs import frozen

from cosmos_core.checkpoint import fingerprint, open_safetensors
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.source import Source
from cosmos_vfm.checkpoints.adapter import BASE_METADATA
from cosmos_vfm.checkpoints.names import from_diffusers
from cosmos_vfm.network import Cosmos3Network

__all__ = ["Adapter", "fold", "parse_adapter", "tell_other_base"]

logger = logging.getLogger(__name__)

FILE = "pytorch_lora_weights.safetensors"
PREFIX = "transformer."
METADATA = "lora_adapter_metadata"


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
        raise UserError("an adapter cannot be used", [Problem(message=f"its strength is {number}", key="--adapter")])
    if not adapter.file.is_file():
        hint = "`cosmos export RUN --adapter -o DIR` writes one"
        problem = Problem(message=f"holds no {FILE}", key="--adapter", file=str(adapter.folder), hint=hint)
        raise UserError("an adapter cannot be used", [problem])
    return adapter


def tell_other_base(adapter: Adapter, source: Source) -> None:
    """Warn when a converted base is not the one that the adapter was trained on; of other sources that is not known."""
    with open_safetensors(adapter.file) as opened:
        base = json.loads((opened.metadata() or {}).get(BASE_METADATA, "{}"))
    if source.kind == "base" and base.get("digest") and fingerprint(source.folder / "model") != base["digest"]:
        text = "%s was trained on %s; %s holds other weights, which it may not suit"
        logger.warning(text, adapter.folder, base["folder"], source.folder)


@torch.no_grad()
def fold(model: Cosmos3Network, adapter: Adapter) -> None:
    """Add strength x alpha / rank x B A to the layers that it adapts, in place.

    Raises UserError when it was made for layers of another size or kind.
    """
    with open_safetensors(adapter.file) as opened:
        settings = json.loads((opened.metadata() or {}).get(METADATA, "{}"))
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    scale = adapter.strength * settings.get(f"{PREFIX}lora_alpha", 1) / settings.get(f"{PREFIX}r", 1)
    parameters, wrong, pairs = dict(model.named_parameters()), [], []
    for name, down in tensors.items():
        if ".lora_A." not in name:
            continue
        up = tensors.get(name.replace(".lora_A.", ".lora_B."))
        layer = _layer(name)
        weight = parameters.get(f"{layer}.weight")
        if up is None or weight is None or weight.shape != (up.shape[0], down.shape[1]):
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
