"""The `cosmos` attention of the reasoner, as transformers knows it: no mask over the square, and no kernel of its own.

Layers call packed attention themselves (`blocks.py`), for dialogs in the language model and pictures in the tower.
"""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["COSMOS", "register"]

COSMOS = "cosmos_packed"


@cache
def register() -> str:
    """Make transformers build no mask under this name; returns it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(COSMOS, _refused)
    AttentionMaskInterface.register(COSMOS, _no_mask)
    return COSMOS


def _no_mask(*arguments: Any, **options: Any) -> None:
    """Sequences are kept apart by their lengths."""


def _refused(*arguments: Any, **options: Any) -> None:
    raise AssertionError("blocks with packed attention do not call the library's attention")
