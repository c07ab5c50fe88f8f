"""DCP warns on every call without a process group; a single process is intended here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_single_process_warning"]


@contextmanager
def without_single_process_warning() -> Iterator[None]:
    """Silence that warning only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to.*single process.*")
        yield
