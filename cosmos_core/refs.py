"""References of the form "package.module:attribute", kept as text until they are loaded."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from attrs import field, frozen

__all__ = ["Ref"]

_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@frozen
class Ref:
    """A checked "package.module:attribute". Raises ValueError for any other text."""

    text: str = field()

    @text.validator
    def _check(self, attribute: Any, value: str) -> None:
        if not isinstance(value, str) or not _PATTERN.fullmatch(value):
            raise ValueError(f"expected 'package.module:attribute', got {value!r}")

    def load(self) -> Any:
        """Import the module and return the attribute; ImportError and AttributeError pass through."""
        module, _, path = self.text.partition(":")
        target: Any = import_module(module)
        for name in path.split("."):
            target = getattr(target, name)
        return target

    def __str__(self) -> str:
        return self.text
