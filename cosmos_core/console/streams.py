"""Standard streams that print any text, whatever the locale."""

from __future__ import annotations

import sys
from io import TextIOWrapper

__all__ = ["escape_unprintable"]


def escape_unprintable() -> None:
    """Print what the terminal's encoding lacks as an escape such as ``\\u4e2d``, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
