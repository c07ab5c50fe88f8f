"""Where log lines of a run go: short ones to the console, all of them to a file of each rank."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from cosmos_core.config.secrets import without_secrets
from cosmos_core.console.terminal import show, show_beside

__all__ = ["log_file", "logging_to_console"]

logger = logging.getLogger(__name__)

OWN = "cosmos_core"
STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class _Formatter(logging.Formatter):
    """Keeps secrets of the environment out."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class _Console(logging.Handler):
    """Prints above what is live on the terminal: all from INFO on of rank 0, warnings of the other ranks."""

    def __init__(self, rank: int) -> None:
        super().__init__(logging.INFO if rank == 0 else logging.WARNING)
        self._rank = rank
        self.setFormatter(_Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            text = f"{level}{self.format(record)}"
            if self._rank:
                show_beside(f"rank {self._rank}: {text}")
            else:
                show(text, STYLES.get(record.levelno, ""))
        except Exception:
            self.handleError(record)


@contextmanager
def logging_to_console(rank: int, packages: Collection[str]) -> Iterator[None]:
    """Log to the console while inside, unless the process has log handlers of its own; those get what they got before.

    packages: whose loggers log everything for `log_file`; others log warnings only. Handlers, levels and Python's
    warnings are afterwards what they were before.
    """
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in (OWN, *packages)}
    effective = {name: logging.getLogger(name).getEffectiveLevel() for name in levels}
    earlier = list(root.handlers)

    def as_before(record: logging.LogRecord) -> bool:
        return record.levelno >= effective.get(record.name.partition(".")[0], logging.NOTSET)

    for handler in earlier:
        handler.addFilter(as_before)
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    console = _Console(rank)
    if not earlier:
        root.addHandler(console)
        logging.captureWarnings(True)
    try:
        yield
    finally:
        if not earlier:
            logging.captureWarnings(False)
            root.removeHandler(console)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for handler in earlier:
            handler.removeFilter(as_before)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append everything that is logged while inside, and the traceback of an error that leaves; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    except BaseException:
        logger.debug("the run ends with an error", exc_info=True)
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
