"""A folder in which another process removes something while it is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

__all__ = ["vanishing"]


@contextmanager
def vanishing(path: Path) -> Iterator[None]:
    """The folder `path` is removed when somebody who knows of it lists it. Fails if nobody does."""
    scandir = os.scandir

    def listed(folder: Any = ".") -> Any:
        if not isinstance(folder, int) and Path(folder) == path and path.exists():
            with patch("os.scandir", scandir):
                shutil.rmtree(path)
        return scandir(folder)

    with patch("os.scandir", listed):
        yield
    assert not path.exists()
