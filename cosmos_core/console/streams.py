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
    sys.stdout = sys.stdout or TextIOWrapper(FileIO(os.devnull, "w"), encoding="utf-8")
    sys.stderr = sys.stderr or TextIOWrapper(FileIO(os.devnull, "w"), encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
