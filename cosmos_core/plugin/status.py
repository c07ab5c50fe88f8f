"""Whether each plugin could be loaded."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import FunctionType, ModuleType

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


def describe_failure(error: BaseException, hook: object = None) -> str:
    """Exception type, message, and the file and line it came from; of a hook, those in its package or module."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(hook, FunctionType):
        own = Path(hook.__code__.co_filename)
        package = own.parent if (own.parent / "__init__.py").is_file() else own
        in_package = [place for place in places if Path(place[0]).is_relative_to(package)]
        places = [(str(own), hook.__code__.co_firstlineno), *in_package]
    where = f" ({places[-1][0]}:{places[-1][1]})" if places else ""
    return f"{type(error).__name__}: {error}{where}"
