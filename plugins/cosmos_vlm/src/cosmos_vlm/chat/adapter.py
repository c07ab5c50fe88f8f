"""Exported adapters, folded into the weights they are used with."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import inf, isfinite
from os.path import isdir
from pathlib import Path

import torch
from attrs import evolve, frozen

from cosmos_core.checkpoint import MergedWeights, SafetensorsWeights, StoredWeights, TensorInfo, fingerprint
from cosmos_core.errors import Problem, UserError
from cosmos_core.strict_json import loads

__all__ = ["Adapter", "read_adapter", "with_adapters"]

FILE = "adapter_config.json"
PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
PATTERNS = ("rank_pattern", "alpha_pattern")
"""Settings of peft that give layers scales of their own."""
MERGE = "; merge it into its weights with peft, and chat with these"


@frozen
class Adapter:
    """A folder that `cosmos export --adapter` or peft wrote. scale: of its output. base: what it was trained on."""

    folder: Path
    scale: float
    base: str


class _AdapterWeights:
    """An adapter's tensors under the network's names. Raises UserError when it has others than two for each layer."""

    def __init__(self, folder: Path) -> None:
        self._stored = SafetensorsWeights(folder)
        self.infos: dict[str, TensorInfo] = {
            name.removeprefix(PREFIX): info for name, info in self._stored.infos.items()
        }
        if others := [name for name in self.infos if not name.endswith((A, B))]:
            raise _unusable(str(folder), f"it holds {others[0]}, which is no matrix of LoRA{MERGE}")

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """Those tensors."""
        tensors = self._stored.read([PREFIX + name for name in names])
        return {name.removeprefix(PREFIX): value for name, value in tensors.items()}


def read_adapter(text: str) -> Adapter:
    """The adapter of ``DIR`` or ``DIR@SCALE``; SCALE multiplies its own scale. Raises UserError."""
    folder, factor = Path(text), 1.0
    if not isdir(folder):
        place, at, number = text.rpartition("@")
        try:
            folder, factor = (Path(place), float(number)) if at else (folder, factor)
        except ValueError:
            raise _unusable(text, f"{number} is no number; write DIR@SCALE, such as DIR@0.7") from None
    try:
        settings = loads((folder / FILE).read_text(encoding="utf-8"))
        if pattern := next(filter(settings.get, PATTERNS), None):
            raise _unusable(text, f"it has a {pattern}, with scales by layer{MERGE}")
        alpha, rank = float(settings["lora_alpha"]), float(settings["r"])
        if not (0 < alpha < inf and 1 <= rank < inf and isfinite(factor)):
            raise ValueError("its rank, alpha or scale is no size")
        root = rank**0.5 if settings.get("use_rslora") else rank
        return Adapter(folder, factor * alpha / root, str(settings.get("base_model_name_or_path") or ""))
    except OSError:
        raise _unusable(text, f"there is no {FILE}; `cosmos export RUN -o DIR --adapter` writes one") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _unusable(text, f"its {FILE} is damaged ({type(error).__name__}: {error})") from None


def _unusable(folder: str, message: str) -> UserError:
    return UserError("the adapter cannot be used", [Problem(message=message, file=folder)])


def with_adapters(weights: StoredWeights, adapters: Collection[Adapter], folder: Path | None) -> StoredWeights:
    """The weights with every adapter folded in. folder: of the weights.

    Raises UserError for adapters that were trained on other weights, as far as their record or their sizes say.
    """
    problems = [
        evolve(problem, file=str(adapter.folder))
        for adapter in adapters
        for problem in _of_another_base(adapter, weights, folder)
    ]
    if problems:
        raise UserError("the adapter belongs to other weights", problems)
    for adapter in adapters:
        weights = MergedWeights(weights, _AdapterWeights(adapter.folder), adapter.scale)
    return weights


def _of_another_base(adapter: Adapter, weights: StoredWeights, folder: Path | None) -> Iterator[Problem]:
    recorded, hint = Path(adapter.base), f"use it with {adapter.base or 'the weights it was trained on'}"
    stored = _AdapterWeights(adapter.folder).infos
    for name in (name.removesuffix(A) for name in stored if name.endswith(A)):
        base = weights.infos.get(f"{name}.weight")
        shape = _size_of(stored, name)
        if base is None or base.shape != shape:
            size = "no such layer" if base is None else f"it is {tuple(base.shape)} there"
            message = f"adapts {name} of {tuple(shape) if shape else 'unknown size'}; {size}"
            yield Problem(message=message, hint=hint)
            return
    if folder is not None and recorded.is_dir() and any(recorded.glob("*.safetensors")):
        same = recorded.resolve() == folder.resolve() or fingerprint(recorded) == fingerprint(folder)
        if not same:
            yield Problem(message=f"was trained on {recorded}, whose weights are not those of {folder}", hint=hint)


def _size_of(stored: Mapping[str, TensorInfo], name: str) -> torch.Size | None:
    """Of the layer that two matrices adapt; None when they are not two that fit."""
    if name + B not in stored:
        return None
    down, up = stored[name + A].shape, stored[name + B].shape
    return torch.Size([up[0], down[1]]) if len(up) == len(down) == 2 and up[1] == down[0] else None
