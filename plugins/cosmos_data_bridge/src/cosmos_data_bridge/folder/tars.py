"""Clips and captions in WebDataset tars: `a.mp4` beside `a.txt` or `a.json`, unpacked to train on."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path, PurePosixPath

from attrs import evolve

from cosmos_core.data.files import check_links, files_below, is_hidden
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.names import path_fault
from cosmos_core.text_files import text_of
from cosmos_data_bridge.folder.entries import Entry
from cosmos_data_bridge.folder.media import MediaFolder
from cosmos_data_bridge.folder.sidecars import CAPTIONS, MEDIA, pair

__all__ = ["tars_of", "unpack"]

TAR = ".tar"


def tars_of(source: Path) -> list[Path]:
    """A tar, or the tars below a folder that has no clips beside them; none for another source."""
    if not source.is_dir():
        return [source] if source.suffix.lower() == TAR else []
    files = files_below(source)
    if any(path.suffix.lower() in MEDIA for path in files):
        return []
    tars = [path for path in files if path.suffix.lower() == TAR]
    check_links(tars)
    return tars


def unpack(tar: Path, root: Path, media: MediaFolder) -> list[Entry]:
    """Write the clips of a tar to a folder of its name; links and other files are left.

    root: the source it belongs to. Raises UserError for a damaged tar, and for clips and captions that do not match.
    """
    name = tar.name if tar == root else tar.relative_to(root).as_posix()
    prefix = f"{name[: -len(TAR)]}/"
    clips: dict[Path, Path] = {}
    captions: dict[Path, Callable[[], str]] = {}
    changed = tar.stat().st_mtime_ns
    try:
        for member, size, read in _members(tar):
            if member.suffix.lower() in CAPTIONS:
                captions[tar / member] = partial(text_of, read(), str(tar / member))
            else:
                write = partial(_write, read=read)
                clips[tar / member] = media.place(f"{prefix}{member}", size, changed, write)
    except (tarfile.TarError, EOFError, ValueError) as error:
        reason = first_line(error).rstrip(":")
        problem = Problem(message=f"cannot be read to its end ({reason})", file=str(tar), hint="fetch it again")
        raise UserError("a tar is damaged", [problem]) from None
    return pair(clips, captions, tar, prefix)


def _members(tar: Path) -> Iterator[tuple[PurePosixPath, int, Callable[[], bytes]]]:
    """Name, bytes and content of every clip and caption. Raises tarfile.TarError, and EOFError at a cut."""
    with tarfile.open(tar) as archive:
        if not isinstance(archive.fileobj, BufferedReader):
            problem = Problem(message="it is compressed", file=str(tar), hint="decompress it, such as with gunzip")
            raise UserError("a tar cannot be read", [problem])
        seen: set[PurePosixPath] = set()
        folders: set[PurePosixPath] = set()
        for member in archive:
            name = PurePosixPath(member.name)
            is_used = name.suffix.lower() in MEDIA or name.suffix.lower() in CAPTIONS
            if not is_used or not (member.isfile() or member.issym() or member.islnk()):
                continue
            outside = name.is_absolute() or ".." in name.parts
            if is_hidden(name) and not outside and not path_fault(member.name):
                continue
            if fault := _fault(member, name, seen, folders):
                raise UserError("a tar has names that cannot be unpacked", [evolve(fault, file=str(tar))])
            seen.add(name)
            folders.update(name.parents)
            yield name, member.size, partial(_content, archive, member)
        # A tar ends with two blocks of zeros; reading stops silently where a member's header is cut off.
        if tar.stat().st_size < archive.offset + tarfile.BLOCKSIZE:
            raise EOFError("its end is missing")


def _fault(
    member: tarfile.TarInfo, name: PurePosixPath, files: Collection[PurePosixPath], folders: Collection[PurePosixPath]
) -> Problem | None:
    """Why a clip or a caption cannot be unpacked. files, folders: of the members before it."""
    if fault := path_fault(member.name):
        return Problem(message=f"the name {member.name!r:.80} {fault}", hint="pack it anew")
    if name.is_absolute() or ".." in name.parts:
        return Problem(message=f"{name} lies outside of it", hint="pack it with relative names")
    if not member.isfile():
        hint = "pack it anew with files, as `tar --dereference --hard-dereference` does"
        return Problem(message=f"{name} is a link to {member.linkname}", hint=hint)
    if name in files:
        return Problem(message=f"{name} is in it twice", hint="pack it anew, with one file of each name")
    both = name if name in folders else next((above for above in name.parents if above in files), None)
    if both is not None:
        return Problem(message=f"{both} is a file and a folder in it", hint="rename one, and pack it anew")
    return None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    data = file.read()
    if len(data) < member.size:
        raise EOFError(f"{member.name} is cut off")
    return data


def _write(target: Path, read: Callable[[], bytes]) -> None:
    target.write_bytes(read())
