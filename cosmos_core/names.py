"""Names in messages: suggestions for misspelt ones, and short forms of many; the layer that a tensor's name says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["by_layer", "did_you_mean", "is_cut_off"]

_NUMBER = re.compile(r"\b\d+\b")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'?"`` for the known name nearest to `name`, or an empty string when none is near."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{matches[0]}'?" if matches else ""


def by_layer(names: Iterable[str]) -> str:
    """Tensor names, merging those that differ only in numbers: ``layers.*.up.weight (2), head.weight``."""
    counts = Counter(_NUMBER.sub("*", name) for name in names)
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())


def is_cut_off(name: str, num_layers: int | None) -> bool:
    """Whether a tensor belongs to a layer past the first `num_layers`; never when that is None."""
    layer = _LAYER.search(name)
    return num_layers is not None and layer is not None and int(layer[1]) >= num_layers
