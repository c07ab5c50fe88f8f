"""Removes the latents that were used longest ago.

Every process that writes removes by itself, and keeps no account: clips are spread evenly over 256 parts by their
digests, so it is enough that the part which a clip goes to keeps within a 256th of the limit.
"""

from __future__ import annotations

import errno
import time
from pathlib import Path

__all__ = ["AUTOMATIC", "PARTS", "make_room"]

AUTOMATIC = "auto-"
"""Begins the names of folders that runs fill. No other folder is touched."""
PARTIAL = ".partial"
"""Ends the names of files that `replace_file` is writing."""
PARTS = 2
"""Hexadecimal digits of a clip's digest that name its part."""
ABANDONED = 24 * 3600
"""Seconds after which the rest of a killed write is removed."""


def make_room(root: Path, part: str, size: int, limit: float) -> None:
    """Remove what was used longest ago from one part of all caches in `root`, so that `size` bytes more fit.

    Raises OSError when they never would.
    """
    share = limit / 16**PARTS
    if size > share:
        needed = size * 16**PARTS / 2**30
        raise OSError(errno.EFBIG, f"a clip of {size / 2**20:.3g} MiB needs dataloader_train.cache_gib >= {needed:.3g}")
    files = sorted(_files(root, part))
    total = size + sum(length for _, length, _ in files)
    for _, length, path in files:
        if total <= share:
            return
        path.unlink(missing_ok=True)
        total -= length


def _files(root: Path, part: str) -> list[tuple[float, int, Path]]:
    """Last use, size and path of each clip; abandoned writes are removed."""
    files = []
    for path in root.glob(f"{AUTOMATIC}*/{part}/*"):
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue  # Another process removed it.
        if not path.name.endswith(PARTIAL):
            files.append((facts.st_mtime, facts.st_size, path))
        elif time.time() - facts.st_mtime > ABANDONED:
            path.unlink(missing_ok=True)
    return files
