"""Clips and captions in WebDataset tars: `a.mp4` beside `a.txt` or `a.json`, unpacked to train on."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cosmos_core.errors import Problem, UserError
from cosmos_data_bridge.folder.sidecars import CAPTIONS, MEDIA

__all__ = ["is_tar", "unpack"]


def is_tar(source: Path) -> bool:
    """Whether this is a tar, or a folder of tars and nothing else."""
    if source.is_dir():
        files = [path for path in source.iterdir() if not path.name.startswith(".")]
        return bool(files) and all(path.suffix == ".tar" for path in files)
    return source.suffix == ".tar"


def unpack(source: Path, folder: Path) -> None:
    """Write the clips and captions of all tars, each to a folder of the tar's name; others and links are left.

    What is there with the same size is kept, so that this can be repeated. Raises UserError for a damaged tar.
    """
    for path in sorted(source.glob("*.tar")) if source.is_dir() else [source]:
        try:
            for member, target in _members(path, folder / path.stem):
                _write(member, target)
        except (tarfile.TarError, EOFError, OSError) as error:
            problem = Problem(message=f"cannot be read to its end ({error})", file=str(path), hint="fetch it again")
            raise UserError("a tar is damaged", [problem]) from None


def _members(path: Path, folder: Path) -> Iterator[tuple[tuple[tarfile.TarFile, tarfile.TarInfo], Path]]:
    with tarfile.open(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            wanted = name.suffix.lower() in MEDIA or name.suffix.lower() in CAPTIONS
            if member.isfile() and wanted and not name.is_absolute() and ".." not in name.parts:
                yield (archive, member), folder / name
        # A tar ends with two blocks of zeros; reading stops silently where a member's header is cut off.
        if path.stat().st_size < archive.offset + tarfile.BLOCKSIZE:
            raise EOFError("its end is missing")


def _write(member: tuple[tarfile.TarFile, tarfile.TarInfo], target: Path) -> None:
    archive, about = member
    if target.is_file() and target.stat().st_size == about.size:
        return
    content = archive.extractfile(about)
    assert content is not None
    data = content.read()
    if len(data) < about.size:
        raise EOFError(f"{about.name} is cut off")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
