"""stderr: lines that scroll by and, on a terminal, lines that stay at the bottom and fit its width."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from textwrap import TextWrapper
from threading import RLock
from typing import TYPE_CHECKING

from cosmos_core.config.env import plain_output_requested

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["DONE", "LEFT", "Line", "Terminal", "is_terminal", "kept", "leave_drawing", "show", "show_beside"]

Line = Callable[[int], str]
"""Text of a line for a number of columns; empty to leave it out."""

DONE, LEFT = "\N{BOX DRAWINGS HEAVY HORIZONTAL}", "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
"""What bars are drawn with."""
MAX_ROWS = 4
"""Most lines at the bottom: three of a run, and one of a long task in it."""


class Terminal:
    """A terminal with lines at its bottom. What is printed through it, or to stdout and stderr, appears above them.

    drawn_by: id of the process that made it. A forked child must not draw.
    """

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self.drawn_by = os.getpid()
        self._console = console
        self._lines: list[Line] = []
        self._drawn: list[str] = []
        self._lock = RLock()
        self._live = Live(
            console=console,
            get_renderable=self._render,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            refresh_per_second=4,
        )

    def show(self, text: str, style: str = "") -> None:
        """Print a line above the ones at the bottom. Words stay whole where a line is too long."""
        from rich.text import Text

        with self._lock:
            if self._live.is_started:
                self._live.refresh()  # Its width may have changed.
            self._console.print(Text(_wrapped(text, self._console.width), style), overflow="ignore", crop=False)

    @contextmanager
    def kept(self, line: Line) -> Iterator[None]:
        """Keep a line at the bottom while inside, below those that are there."""
        with self._lock:
            self._lines.append(line)
            if len(self._lines) == 1:
                self._live.start()
        try:
            yield
        finally:
            with self._lock:
                self._live.refresh()
                self._lines.remove(line)
                if not self._lines:
                    self._live.stop()
                    self._drawn = []

    def _render(self) -> RenderableType:
        from rich.text import Text

        width = self._console.width
        self._unwrap(width)
        # The last column stays free: some terminals wrap a line that fills it.
        texts = [line(width - 1) for line in self._lines]
        self._drawn = [text[: width - 1] for text in texts if text][:MAX_ROWS]
        shown = "\n".join(self._drawn)
        if self._console.options.ascii_only:
            shown = shown.translate({ord(DONE): "=", ord(LEFT): "-"})
        text = Text(shown, no_wrap=True, overflow="crop")
        text.highlight_regex(f"{DONE}+", "green")
        text.highlight_regex(f"{LEFT}+", "dim")
        return text

    def _unwrap(self, width: int) -> None:
        """Erase the rows that the drawn lines took when a narrower terminal wrapped them."""
        from rich.control import Control
        from rich.segment import ControlType

        extra = sum((len(text) - 1) // width for text in self._drawn)
        if extra > 0:
            step = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
            self._console.control(Control(ControlType.CARRIAGE_RETURN, *step * extra))


def _wrapped(text: str, columns: int) -> str:
    """Lines of at most `columns`, cut between words. A longer word, such as a path, stays whole."""
    wrapper = TextWrapper(max(columns, 1), break_long_words=False, break_on_hyphens=False)
    return "\n".join(part for line in text.splitlines() for part in wrapper.wrap(line) or [""])


def is_terminal() -> bool:
    """Whether stderr is a terminal that can move its cursor, and the environment does not ask for plain lines."""
    return sys.stderr.isatty() and not plain_output_requested()


def show(text: str, style: str = "") -> None:
    """Print a line on stderr; where it is no terminal, with the time of day. style: of rich, such as "yellow".

    The work that is told of goes on where nobody reads any more, as after ``cosmos run hello 2>&1 | head -3``.
    """
    if not is_terminal():
        with suppress(OSError):
            print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
    elif _terminal().drawn_by == os.getpid():
        _terminal().show(text, style)
    else:
        show_beside(text)


def show_beside(text: str) -> None:
    """Print a line from a process beside the one that draws at the bottom of the terminal.

    The line comes below what is drawn. The empty ones after it are what the other process erases when it draws again.
    """
    stream = sys.__stderr__ or sys.stderr
    if is_terminal():
        columns = os.get_terminal_size(stream.fileno()).columns
        stream.write("\n" + _wrapped(text, columns) + "\n" * MAX_ROWS)
    else:
        stream.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    stream.flush()


def leave_drawing() -> None:
    """Go on below what a killed process drew, and show the cursor, which it has left hidden."""
    if is_terminal():
        sys.stderr.write("\n\x1b[?25h")
        sys.stderr.flush()


@contextmanager
def kept(line: Line) -> Iterator[None]:
    """Keep a line at the bottom of the terminal while inside; nothing where there is none."""
    if is_terminal() and _terminal().drawn_by == os.getpid():
        with _terminal().kept(line):
            yield
    else:
        yield


@cache
def _terminal() -> Terminal:
    from rich.console import Console

    os.register_at_fork(after_in_child=_leave_to_parent)
    return Terminal(Console(stderr=True, markup=False, emoji=False, highlight=False))


def _leave_to_parent() -> None:
    """A forked child prints by itself: the lock of the parent's display may have been held when it was forked."""
    from rich.file_proxy import FileProxy

    if isinstance(sys.stdout, FileProxy):
        sys.stdout = sys.__stdout__
    if isinstance(sys.stderr, FileProxy):
        sys.stderr = sys.__stderr__
