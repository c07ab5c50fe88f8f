"""Standard streams that print any text, whatever the locale, also where nobody reads it."""

from __future__ import annotations

import os
import sys
from errno import EPIPE
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["steady_streams"]

OUTPUT, ERRORS = 1, 2
"""Descriptors."""


class _Output(FileIO):
    """A descriptor whose reader may leave, as `head` does: the command goes on, and its exit code tells how it ended.

    Another error, as of a full disk, is raised once: a buffer above tries again at the end of the process. Of standard
    error it is not raised, since no place is left to tell it.
    """

    _failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        """As of a file; what nobody reads counts as written."""
        size = memoryview(data).nbytes
        try:
            return super().write(data) if size else 0  # click tries a stream with nothing, and hides errors.
        except OSError as error:
            if error.errno != EPIPE and self.fileno() != ERRORS and not self._failed:
                self._failed = True
                raise
            return size


def steady_streams() -> None:
    """Print what the terminal's encoding lacks as an escape such as ``\\u4e2d``, instead of failing.

    Streams that were closed before the start, as a daemon's are, take everything and show nothing. So do those whose
    reader has left.
    """
    _open_closed()
    sys.stdout, sys.stderr = _steady(sys.stdout, OUTPUT), _steady(sys.stderr, ERRORS)


def _steady(stream: TextIO | None, descriptor: int) -> TextIO:
    """A standard stream, or one that stands for it; those of terminals and of tests stay the same objects."""
    raw = _Output(descriptor, "w", closefd=False)
    if stream is None:
        return TextIOWrapper(BufferedWriter(raw), encoding="utf-8", errors="backslashreplace")
    if not isinstance(stream, TextIOWrapper):
        return stream
    stream.reconfigure(errors="backslashreplace")
    if stream.isatty() or stream not in (sys.__stdout__, sys.__stderr__):
        return stream
    return TextIOWrapper(
        raw if stream.write_through else BufferedWriter(raw),  # As with PYTHONUNBUFFERED.
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _open_closed() -> None:
    """Open the standard descriptors that are closed, also for processes that are started: torch's ranks need them."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is given, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
