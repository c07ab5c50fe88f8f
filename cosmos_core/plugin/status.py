"""Whether each plugin could be loaded."""

from __future__ import annotations

import traceback
from types import ModuleType

from attrs import field, frozen

from cosmos_core.plugin.discovery import Candidate

__all__ = ["PluginStatus", "describe_failure"]


@frozen(kw_only=True)
class PluginStatus:
    """state: 'ok', 'broken', 'outdated' or 'disabled'; reason: why it is not ok, with file and line where known.

    warning: a flaw of an 'ok' plugin. milliseconds: time of importing it and calling its hooks.
    """

    candidate: Candidate
    state: str
    reason: str = ""
    warning: str = ""
    milliseconds: float = 0.0
    provides: tuple[str, ...] = ()
    module: ModuleType | None = field(default=None, eq=False, repr=False)


def describe_failure(error: BaseException) -> str:
    """Exception type, message, and the file and line it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
