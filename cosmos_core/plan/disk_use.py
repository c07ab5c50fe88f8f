"""The files of a folder in which another process may write and remove meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["files_below"]


def files_below(folder: Path, *, follow_links: bool = False) -> Iterator[tuple[str, os.stat_result]]:
    """Name and facts of each file, at any depth; what is removed while the folder is read is left out.

    follow_links: give the facts of the file that a link leads to. Links to folders are never entered.
    """
    pending = [str(folder)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                facts = entry.stat(follow_symlinks=follow_links)
            except OSError:
                continue
            yield entry.name, facts
