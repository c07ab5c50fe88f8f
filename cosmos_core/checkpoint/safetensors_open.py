"""Opens safetensors files and their indexes; damage is a UserError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import leads_outside
from cosmos_core.strict_json import read_object

__all__ = ["open_safetensors", "read_weight_map"]


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a file for reading on the CPU. Raises UserError when it is missing, damaged or truncated."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        problem = Problem(message=str(error), file=str(path), hint="download it again")
        raise UserError("a file of weights is damaged or incomplete", [problem]) from None


def read_weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> file name, from the index of sharded safetensors. Raises UserError when the index is damaged."""
    weight_map = read_object(index, "an index of weights is damaged", "download it again").get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        problem = Problem(message="has no weight_map from tensors to files", file=str(index), hint="download it again")
        raise UserError("an index of weights is damaged", [problem])
    outside = next((name for name in weight_map.values() if leads_outside(name)), None)
    if outside is not None:
        problem = Problem(message=f"names the file {outside!r}, which is outside its folder", file=str(index))
        raise UserError("an index of weights is unsafe", [problem])
    return weight_map
