"""How fast checkpoints are written and read in the output root, and whether they come back as written."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from cosmos_core.doctor.check import Check, DoctorOptions, Result

__all__ = ["check_disk", "checks"]

MIB, GIB, MB, GB = 2**20, 2**30, 1e6, 1e9
SIZE, QUICK_SIZE = 256 * MIB, 16 * MIB
BLOCK = 4 * MIB
CHECKPOINT = 120 * GB
"""Bytes of a checkpoint of an 8B model with optimizer and average."""
SLOW = 100 * MB
"""Bytes a second; a checkpoint takes 20 minutes."""


def checks(options: DoctorOptions) -> Iterator[Check]:
    """The disk of the output root, and the space at home, where downloads go."""
    size = QUICK_SIZE if options.quick else SIZE
    yield Check(f"output root {options.output_root}", partial(check_disk, options.output_root, size), 120.0)
    yield Check("home", _home)


def check_disk(root: Path, size: int) -> Result:
    """Write, fsync and read `size` bytes in `root`, or in its nearest parent that exists; nothing stays behind."""
    folder = next(path for path in (root, *root.resolve().parents) if path.exists())
    try:
        free = shutil.disk_usage(folder).free
        # A file without a name: it is gone even if this process is killed.
        with tempfile.TemporaryFile(dir=folder) as file:
            written, read, right = _measure(file, size)
    except OSError as error:
        hint = "checkpoints could not be written: free space, or set IMAGINAIRE_OUTPUT_ROOT to another folder"
        return Result(status="broken", message=f"{folder}: {error.strerror or error}", hint=hint)
    if not right:
        hint = "do not keep checkpoints on this disk"
        return Result(status="broken", message=f"{folder}: what was read is not what was written", hint=hint)
    text = (
        f"{free / GIB:.0f} GiB free; one process writes {written / MB:.0f} MB/s, reads {read / MB:.0f} MB/s; "
        f"a checkpoint of {CHECKPOINT / GB:.0f} GB: {_duration(CHECKPOINT / written)} to write, "
        f"{_duration(CHECKPOINT / read)} to read"
    )
    data = {"free_gib": free / GIB, "write_mb_per_second": written / MB, "read_mb_per_second": read / MB}
    if written < SLOW:
        hint = "a faster disk saves time at every checkpoint: set IMAGINAIRE_OUTPUT_ROOT"
        return Result(status="note", message=text, hint=hint, data=data)
    return Result(status="ok", message=text, data=data)


def _measure(file: IO[bytes], size: int) -> tuple[float, float, bool]:
    """Bytes a second written and read, and whether they are the same."""
    block, blocks = os.urandom(BLOCK), range(size // BLOCK)
    begin = time.perf_counter()
    for _ in blocks:
        file.write(block)
    file.flush()
    os.fsync(file.fileno())
    written = time.perf_counter() - begin
    if sys.platform == "linux":
        # So that the disk is read, not the memory in front of it.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    begin = time.perf_counter()
    right = all(file.read(BLOCK) == block for _ in blocks)
    return size / written, size / (time.perf_counter() - begin), right


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _home() -> Result:
    return Result(status="ok", message=f"{shutil.disk_usage(Path.home()).free / GIB:.0f} GiB free in {Path.home()}")
