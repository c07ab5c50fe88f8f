"""Registers the reasoner's `cosmos` attention with transformers, without a mask and without a kernel.

Layers call packed attention themselves (`blocks.py`), in the language model and in the vision tower.
"""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["COSMOS", "register"]

COSMOS = "cosmos_packed"


@cache
def register() -> str:
    """Register the name, so that transformers builds no mask for it; returns the name."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(COSMOS, _not_called)
    AttentionMaskInterface.register(COSMOS, _no_mask)
    return COSMOS


def _no_mask(*arguments: Any, **options: Any) -> None:
    """Packed attention needs none: it takes the lengths of the sequences."""


def _not_called(*arguments: Any, **options: Any) -> None:
    raise AssertionError("blocks with packed attention do not call the library's attention")
