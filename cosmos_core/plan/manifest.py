"""``manifest.json`` of a checkpoint: size and checksum of every file, to find damage before anything is loaded.

It also tells a reader that the checkpoint was written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from attrs import asdict, frozen

from cosmos_core.config.cores import cores
from cosmos_core.console import Progress, progress
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.formats import check_format
from cosmos_core.names import leads_outside
from cosmos_core.plan.paths import ADAPTER_BASE, FROZEN_BASE, LAUNCH_FILE
from cosmos_core.plan.record import synced_file
from cosmos_core.strict_json import loads

__all__ = [
    "DAMAGED",
    "MANIFEST",
    "NOTES",
    "Checksum",
    "FileRecord",
    "SameContent",
    "checksums",
    "damage",
    "verify",
    "write_manifest",
]

MANIFEST = "manifest.json"
DAMAGED = "damaged.json"
"""Written by `verify` into a checkpoint whose bytes are not those that were written."""
NOTES = (FROZEN_BASE, ADAPTER_BASE, LAUNCH_FILE)
"""Files without a checksum, which people may edit; whoever reads them checks them."""
MANIFEST_FORMAT = 1
"""Format number of ``manifest.json``."""
BLOCK = 1 << 24
"""Bytes read at a time."""


class Checksum:
    """XXH3 with 128 bits, of what is added: several GB a second, and for accidents, not against forgery."""

    def __init__(self) -> None:
        from xxhash import xxh3_128

        self._digest = xxh3_128()
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """Add bytes; releases the interpreter for many."""
        self._digest.update(data)
        self.size += memoryview(data).nbytes

    def record(self) -> FileRecord:
        """Size and checksum of everything added."""
        return FileRecord(self.size, self._digest.hexdigest())


@frozen
class FileRecord:
    """size: in bytes. xxh3: checksum of the content in hexadecimal."""

    size: int
    xxh3: str

    @classmethod
    def of(cls, path: Path, reading: Progress | None = None) -> FileRecord:
        """Of the file at `path`. Raises OSError."""
        checksum = Checksum()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                checksum.add(block)
                if reading is not None:
                    reading.advance(len(block))
        return checksum.record()


def _files(checkpoint: Path) -> list[str]:
    """Names of a checkpoint's files, relative to it; not of those about them, nor of notes that people may edit."""
    names = (str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in (MANIFEST, DAMAGED, *NOTES))


def write_manifest(checkpoint: Path, known: Mapping[str, FileRecord]) -> None:
    """Write the manifest of a complete folder. known: files whose checksum was taken while they were written."""
    records = {name: known.get(name) or FileRecord.of(checkpoint / name) for name in _files(checkpoint)}
    files = {name: asdict(record) for name, record in records.items()}
    text = json.dumps({"format": MANIFEST_FORMAT, "files": files}, indent=1) + "\n"
    with synced_file(checkpoint / MANIFEST) as file:
        file.write(text.encode())


def damage(checkpoint: Path) -> list[str]:
    """What is wrong with a checkpoint as far as sizes tell, and what `verify` noted.

    Without a manifest only whether its weights are there at all.
    """
    try:
        noted = loads((checkpoint / DAMAGED).read_text(encoding="utf-8"))
        return [str(line) for line in noted]
    except FileNotFoundError:
        return list(_wrong_sizes(checkpoint))
    except (OSError, ValueError, TypeError) as error:
        return [f"{DAMAGED} cannot be read: {error}"]


class SameContent:
    """Tells a reader that a checkpoint was replaced since this was made. `reading` may be entered any number of times.

    A run that went back to an earlier step writes later ones again, even while they are read. Each save writes a new
    manifest. Where there is none at the end, nothing is compared.
    """

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._before = self._manifest()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raises UserError when the checkpoint was replaced by the end, in place of any UserError from inside."""
        try:
            yield
        except UserError:
            self._check()
            raise
        self._check()

    def _check(self) -> None:
        now = self._manifest()
        if now is None or now == self._before:
            return
        hint = "run the same command again"
        problem = Problem(message="its run wrote it again", file=str(self._checkpoint), hint=hint)
        raise UserError("the checkpoint was replaced while it was read", [problem]) from None

    def _manifest(self) -> tuple[int, int] | None:
        """Its time and size. Not inodes: some network file systems change them."""
        try:
            facts = (self._checkpoint / MANIFEST).stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size


def verify(checkpoint: Path) -> list[str]:
    """What is wrong with a checkpoint's bytes; noted in the folder, so that `damage` knows. Reads every file.

    Raises UserError when its run wrote it again meanwhile, and when the note cannot be written.
    """
    with SameContent(checkpoint).reading():
        wrong = list(_wrong_sizes(checkpoint))
        if not wrong:
            wrong = _wrong_bytes(checkpoint, checksums(checkpoint))
    note = checkpoint / DAMAGED
    try:
        if wrong:
            note.write_text(json.dumps(wrong, indent=1) + "\n", encoding="utf-8")
        else:
            note.unlink(missing_ok=True)
    except OSError as error:
        problem = Problem(message=error.strerror or str(error), file=str(note))
        raise UserError("what was found cannot be noted in the checkpoint", [problem]) from None
    return wrong


def _wrong_sizes(checkpoint: Path) -> Iterator[str]:
    try:
        records = checksums(checkpoint)
    except UserError as error:
        yield f"{MANIFEST} {error.problems[0].message}"
        return
    if not records and not (checkpoint / "model/.metadata").is_file():
        yield f"{MANIFEST} and model/.metadata are missing"
    for name, record in records.items():
        try:
            size = (checkpoint / name).stat().st_size
        except OSError:
            yield f"{name} is missing"
            continue
        if size != record.size:
            yield f"{name} has {size:,} bytes instead of {record.size:,}"


def _wrong_bytes(checkpoint: Path, records: Mapping[str, FileRecord]) -> list[str]:
    def check(name: str) -> str | None:
        try:
            same = FileRecord.of(checkpoint / name, reading) == records[name]
        except OSError as error:
            return f"{name} cannot be read: {first_line(error)}"
        return None if same else f"{name} holds other bytes than were written"

    with progress(f"verifying {checkpoint.name}", unit="bytes") as reading:
        reading.total = sum(record.size for record in records.values())
        with ThreadPoolExecutor(min(8, cores())) as pool:
            return [line for line in pool.map(check, records) if line is not None]


def checksums(checkpoint: Path) -> dict[str, FileRecord]:
    """What the manifest says of each file, by name; nothing for a checkpoint from before there were manifests.

    Raises UserError for a damaged one.
    """
    path = checkpoint / MANIFEST
    if not path.is_file():
        return {}
    try:
        content = loads(path.read_text(encoding="utf-8"))
        check_format(content, path, MANIFEST_FORMAT)
        files = {name: FileRecord(entry["size"], entry["xxh3"]) for name, entry in content["files"].items()}
        if outside := next(filter(leads_outside, files), None):
            raise ValueError(f"names {outside!r}, which is outside the checkpoint")
        if not all(isinstance(record.size, int) and isinstance(record.xxh3, str) for record in files.values()):
            raise ValueError("a size is no whole number, or a checksum is no text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = Problem(message=f"cannot be read: {first_line(error)}", file=str(path))
        raise UserError("the manifest of a checkpoint is damaged", [problem]) from None
    return files
