"""What was measured of files, kept while a dataset is prepared, so that an interrupted command goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import asdict

from cosmos_core.data import UnreadableSample
from cosmos_data_bridge.folder.measure import Facts

__all__ = ["Journal", "stamp_of"]


def stamp_of(file: Path) -> list[Any]:
    """Path, bytes and time of change: another one for a file that changed. Raises OSError."""
    about = file.stat()
    return [str(file.resolve()), about.st_size, about.st_mtime_ns]


class Journal:
    """Facts of files, one a line. A file that has another size or time than its line is measured again.

    measure: gives the facts of a file; raises UnreadableSample. Safe from several threads.
    """

    def __init__(self, path: Path, measure: Callable[[Path], Facts]) -> None:
        self.path = path
        self._measure = measure
        self._lock = threading.Lock()
        self._known = {json.dumps(line["file"]): line for line in _whole_lines(path)}
        path.write_text("".join(f"{json.dumps(line)}\n" for line in self._known.values()), encoding="utf-8")

    def __len__(self) -> int:
        return len(self._known)

    def facts_of(self, file: Path) -> Facts:
        """The facts of a file, measured unless they are known. Raises UnreadableSample."""
        try:
            stamp = stamp_of(file)
        except OSError:
            raise UnreadableSample(str(file), "file is missing") from None
        line = self._known.get(json.dumps(stamp)) or self._add(file, stamp)
        if "reason" in line:
            raise UnreadableSample(str(file), line["reason"])
        return Facts(**line["facts"])

    def _add(self, file: Path, stamp: list[Any]) -> dict[str, Any]:
        line: dict[str, Any] = {"file": stamp}
        try:
            line["facts"] = asdict(self._measure(file))
        except UnreadableSample as error:
            line["reason"] = error.reason
        with self._lock, self.path.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(line) + "\n")
        return line


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Those that were not cut off when the command was stopped."""
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with suppress(ValueError):
            yield json.loads(line)
