"""DCP warns on every call of a run without a process group, where a single process is what we mean."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_single_process_warning"]


@contextmanager
def without_single_process_warning() -> Iterator[None]:
    """Silence that one warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to.*single process.*")
        yield
