"""Opens safetensors files that somebody else wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cosmos_core.errors import Problem, UserError

__all__ = ["opened_safetensors"]


@contextmanager
def opened_safetensors(path: Path) -> Iterator[Any]:
    """The file, for reading on the CPU. Raises UserError when it is missing, damaged or cut short."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, FileNotFoundError) as error:
        problem = Problem(message=str(error), file=str(path), hint="fetch it again")
        raise UserError("a file of weights is damaged or not whole", [problem]) from None
