"""A folder of latents: written by `cosmos data cache`, or by runs themselves within a size."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from cosmos_core.errors import Problem, UserError
from cosmos_core.formats import check_format
from cosmos_core.plan.record import replace_file
from cosmos_core.strict_json import read_object
from cosmos_vfm.cache.entry import FORMAT, PACKAGE, Cached, from_bytes, to_bytes
from cosmos_vfm.cache.eviction import PARTS, make_room

__all__ = ["INDEX", "LatentCache", "described", "write_index"]

INDEX = "cache.json"
USE_NOTED_SECONDS = 3600
"""Seconds after which another use of a clip is noted, so that most reads write nothing."""
FREE_SHARE, FREE_BYTES = 0.05, 20 * 2**30
"""Of a disk, the smaller of the two is left to checkpoints and everybody else."""


class LatentCache:
    """A folder with one file per clip, named by the clip's content.

    Raises UserError when another video tokenizer or a newer version made it.
    """

    def __init__(
        self, folder: Path, video_tokenizer: str, text: str, *, create: bool = False, limit: float | None = None
    ) -> None:
        """limit: bytes of this and the other automatic caches beside it; what was used longest ago is removed."""
        self.folder, self._limit = folder, limit
        index = folder / INDEX
        if create and not os.path.lexists(index):
            if not self.is_empty:
                raise _unknown(index, "is missing, while there are clips of an unknown video tokenizer")
            write_index(folder, video_tokenizer, text)
        record = _read(index)
        check_format(record, index, FORMAT, package=PACKAGE)
        made_with = record.get("codec")
        if made_with != video_tokenizer:
            problem = Problem(
                message=f"was made with the video tokenizer '{made_with}', this recipe has '{video_tokenizer}'",
                file=str(index),
                hint="make a new one in another folder, or unset dataloader_train.cache",
            )
            raise UserError("the latent cache belongs to another video tokenizer; nothing was started", [problem])
        self._same_text = record.get("text") == text

    @property
    def is_empty(self) -> bool:
        """Whether it holds no clip."""
        return next(self.folder.glob("*/*.safetensors"), None) is None

    def path(self, identity: str) -> Path:
        """File of a clip, whether it exists or not."""
        return self.folder / identity[:PARTS] / f"{identity}.safetensors"

    def write(self, identity: str, value: Cached) -> None:
        """Store a clip. The file appears when it is complete. Raises OSError."""
        path = self.path(identity)
        content = to_bytes(value if self._same_text else Cached(value.latents, value.caption, None))
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._limit is not None:
            make_room(self.folder.parent, path.parent.name, len(content), self._limit)
            _check_space(path.parent, len(content))
        _replace(path, content)

    def read(self, identity: str, caption: str) -> Cached | None:
        """The clip, with token ids if they belong to this caption. None when it is missing or damaged.

        Raises UserError when a newer version wrote it.
        """
        path = self.path(identity)
        try:
            if not path.is_file():  # A pipe or a device might be read forever.
                return None
            # Not mapped: another machine may remove the file meanwhile, which a map answers with SIGBUS.
            content = path.read_bytes()
        except OSError:
            return None
        if self._limit is not None:
            _note_use(path)
        try:
            return from_bytes(content, path, caption, with_ids=self._same_text)
        except UserError:
            if self._limit is None:
                raise
            return None  # Each format has its own folder, so the format's number is damaged.


def write_index(folder: Path, video_tokenizer: str, text: str) -> None:
    """Write the index of a folder, in place of any older one. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"format": FORMAT, "codec": video_tokenizer, "text": text}
    _replace(folder / INDEX, f"{json.dumps(record)}\n".encode())


def described(error: OSError, folder: Path) -> str:
    """What the disk said, and of which file."""
    return f"{error.filename or folder}: {error.strerror or error}"


def _note_use(path: Path) -> None:
    """Set the time of change to now, by which files are removed."""
    with suppress(OSError):  # It was removed, or the folder may only be read.
        if time.time() - path.stat().st_mtime > USE_NOTED_SECONDS:
            os.utime(path)


def _check_space(folder: Path, size: int) -> None:
    """Raises OSError when a file of this size would take the last of the disk."""
    disk = shutil.disk_usage(folder)
    if disk.free - size < min(FREE_SHARE * disk.total, FREE_BYTES):
        raise OSError(errno.ENOSPC, f"only {disk.free / 2**30:.1f} GiB of its disk are free", str(folder))


def _replace(path: Path, content: bytes) -> None:
    """Other processes and machines may write the same file."""
    replace_file(path, content, writer=f".{uuid4().hex}")


def _read(index: Path) -> dict[str, Any]:
    if not os.path.lexists(index):
        problem = Problem(message=f"missing: {index}", key="dataloader_train.cache")
        raise UserError("there is no latent cache; make one with `cosmos data cache`", [problem])
    try:
        return read_object(index)
    except UserError as error:
        raise _unknown(index, error.problems[0].message) from None


def _unknown(index: Path, fault: str) -> UserError:
    hint = "remove the folder, and make the cache anew; without this file nothing says what the clips belong to"
    problem = Problem(message=fault, file=str(index), hint=hint)
    return UserError("the index of a latent cache cannot be used; nothing was started", [problem])
