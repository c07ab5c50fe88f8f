"""Opens safetensors files that somebody else wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cosmos_core.errors import Problem, UserError

__all__ = ["opened_safetensors", "read_weight_map"]


@contextmanager
def opened_safetensors(path: Path) -> Iterator[Any]:
    """The file, for reading on the CPU. Raises UserError when it is missing, damaged or cut short."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, FileNotFoundError) as error:
        problem = Problem(message=str(error), file=str(path), hint="fetch it again")
        raise UserError("a file of weights is damaged or not whole", [problem]) from None


def read_weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file, as an index of sharded safetensors says. Raises UserError for one that is damaged."""
    try:
        found = json.loads(index.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        problem = Problem(message="has no weight_map of tensors and files", file=str(index), hint="fetch it again")
        raise UserError("an index of weights is damaged", [problem])
    return found
