"""Texts in a configuration that cannot be recorded or name a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cosmos_core.config.document import Provenance, problem_at
from cosmos_core.config.locate import KeyPath
from cosmos_core.errors import Problem
from cosmos_core.names import text_fault

__all__ = ["text_problems"]


def text_problems(values: Any, provenance: Provenance, path: KeyPath = ()) -> Iterator[Problem]:
    """A problem for every text, keys included, that holds NUL or bytes that are not UTF-8."""
    if isinstance(values, dict):
        for key, value in values.items():
            if fault := text_fault(key):
                yield problem_at((*path, key), f"a key {fault}: {key!r}", provenance)
            yield from text_problems(value, provenance, (*path, key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from text_problems(value, provenance, (*path, index))
    elif isinstance(values, str) and (fault := text_fault(values)):
        yield problem_at(path, f"{fault}: {values!r}", provenance, "rename the file or folder, or correct the text")
