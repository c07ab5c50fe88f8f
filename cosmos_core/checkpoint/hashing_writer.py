"""Writes DCP folders, and takes the checksum of each file on its way to the disk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import attrs
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from cosmos_core.checkpoint.crc32 import without_crc32
from cosmos_core.plan.manifest import Checksum, FileRecord

__all__ = ["HashingWriter", "collect_checksums"]

SUFFIX = ".checksum"
"""Of the small file beside each data file; all are collected into the manifest."""
WRITE_BACK = 64 << 20
"""Bytes after which the system is asked to write them to the disk."""


class HashingWriter(FileSystemWriter):
    """FileSystemWriter that leaves the checksum of each file beside it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fs = self._files = _HashingFiles()

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's part. Raises OSError when the disk does not take it.

        torch would raise a RuntimeError in its place, which loses its cause on the way to other ranks.
        """
        try:
            with without_crc32():
                return super().write_data(plan, planner)
        except Exception:
            if self._files.fault is not None:
                raise self._files.fault from None
            raise


class _HashingFiles(FileSystem):
    """fault: the first error of a write."""

    fault: OSError | None = None

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
        """Open a file; one opened for writing is only ever appended to."""
        if mode != "wb":
            with super().create_stream(path, mode) as file:
                yield file
            return
        checksum = Checksum()
        with Path(path).open(mode) as opened:
            yield _HashingStream(opened, checksum, self)
        record = attrs.asdict(checksum.record())
        Path(f"{os.fspath(path)}{SUFFIX}").write_text(json.dumps(record), encoding="utf-8")


class _HashingStream:
    """What torch.save and DCP use of a file."""

    def __init__(self, file: Any, checksum: Checksum, files: _HashingFiles) -> None:
        self._file = file
        self._checksum = checksum
        self._files = files
        self._begun = 0

    def write(self, data: Any) -> int:
        """Append bytes."""
        self._checksum.add(data)
        try:
            written = cast(int, self._file.write(data))
            self._begin_to_write_back()
        except OSError as error:
            self._files.fault = self._files.fault or error
            raise
        return written

    def _begin_to_write_back(self) -> None:
        """Let Linux write new pages to the disk now, as this advice does; else it waits until many have gathered."""
        end = self._checksum.size
        if sys.platform == "linux" and end - self._begun >= WRITE_BACK:
            with suppress(OSError):  # Not every kernel and file system takes advice.
                os.posix_fadvise(self.fileno(), self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end

    def tell(self) -> int:
        """Bytes written so far."""
        return cast(int, self._file.tell())

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def fileno(self) -> int:
        """Of the open file, to sync it."""
        return cast(int, self._file.fileno())

    def close(self) -> None:
        """The file is closed where it was opened; DCP closes what it wraps around a stream."""


def collect_checksums(folder: Path) -> dict[str, FileRecord]:
    """Checksums left below `folder`, by name of their file relative to it; the small files are removed."""
    records = {}
    for path in folder.rglob(f"*{SUFFIX}"):
        of = path.with_name(path.name.removesuffix(SUFFIX))
        if of.is_file():  # DCP writes its metadata under another name first.
            records[str(of.relative_to(folder))] = FileRecord(**json.loads(path.read_text(encoding="utf-8")))
        path.unlink()
    return records
