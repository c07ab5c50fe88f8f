"""Standard streams that print any text, whatever the locale."""

from __future__ import annotations

import os
import sys
from io import FileIO, TextIOWrapper

__all__ = ["escape_unprintable"]


def escape_unprintable() -> None:
    """Print what the terminal's encoding lacks as an escape such as ``\\u4e2d``, instead of failing.

    Streams that were closed before the start, as a daemon's are, take everything and show nothing.
    """
    _open_closed()
    sys.stdout = sys.stdout or TextIOWrapper(FileIO(os.devnull, "w"), encoding="utf-8")
    sys.stderr = sys.stderr or TextIOWrapper(FileIO(os.devnull, "w"), encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _open_closed() -> None:
    """Open the standard descriptors that are closed, also for processes that are started: torch's ranks need them."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is given, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
