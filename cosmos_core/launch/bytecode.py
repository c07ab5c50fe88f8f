"""Whether Python keeps the bytecode of torch between processes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["NO_BYTECODE", "keeps_bytecode"]

NO_BYTECODE = (
    "Python keeps no bytecode of torch here, so every process compiles it anew, which makes imports three times as "
    "long: unset PYTHONDONTWRITEBYTECODE, or set PYTHONPYCACHEPREFIX to a folder that can be written"
)


def keeps_bytecode(package: str = "torch") -> bool:
    """Asked after the package was imported, which writes its bytecode where that is possible."""
    spec = find_spec(package)
    return spec is None or spec.cached is None or Path(spec.cached).exists()
