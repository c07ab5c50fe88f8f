"""What a source holds: clips with sidecars, tables, tars, or a Hugging Face dataset, here or on the Hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from os.path import abspath, exists, realpath
from pathlib import Path

from attrs import field, frozen

from cosmos_core.console import progress
from cosmos_core.data.dropped import Drops
from cosmos_core.data.files import files_below
from cosmos_core.errors import Problem, UserError
from cosmos_core.hub import fetch
from cosmos_core.plugin import CheckpointSpec
from cosmos_data_bridge.folder.entries import Entry, unique
from cosmos_data_bridge.folder.media import MediaFolder
from cosmos_data_bridge.folder.rows import TABLES
from cosmos_data_bridge.folder.sidecars import MEDIA, sidecars
from cosmos_data_bridge.folder.tables import METADATA, Tables, tables_of
from cosmos_data_bridge.folder.tars import tars_of, unpack

__all__ = ["Listing", "Source", "fetched", "list_entries"]

HUB = "hf://"
ADDRESS = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<inside>.+))?")
UNPACK = "`cosmos data prepare folder SOURCE -o OUT --copy` unpacks them"

SPREADSHEET = "a spreadsheet (Excel, Numbers, LibreOffice) is read when it is saved as CSV"


@frozen
class Source:
    """Where clips are listed. path_column, caption_column: of a table; looked for when None.

    revision: repository and commit of a source that is on the Hub.
    """

    path: Path
    path_column: str | None = None
    caption_column: str | None = None
    revision: str | None = None


def fetched(text: str, path_column: str | None, caption_column: str | None) -> Source:
    """The source of a path, or of `hf://datasets/OWNER/NAME[@REVISION][/FOLDER]`, which is downloaded.

    Raises UserError for an address of another form, and when it cannot be fetched.
    """
    if not text.startswith(HUB):
        return Source(Path(text), path_column, caption_column)
    address = ADDRESS.fullmatch(text.rstrip("/"))
    if address is None:
        hint = "hf://datasets/OWNER/NAME, with @REVISION and a /FOLDER after it if you like"
        raise UserError("this is no dataset on the Hub", [Problem(message=text, hint=hint)])
    inside = address["inside"] or ""
    files = (inside, f"{inside}/*") if inside else ()
    spec = CheckpointSpec(
        name=text, summary="", repo=address["repo"], revision=address["revision"] or "main", files=files
    )
    snapshot = fetch(spec, repo_type="dataset")
    return Source(
        snapshot.path / inside, path_column, caption_column, f"{snapshot.source_revision}/{inside}".rstrip("/")
    )


@frozen
class Listing:
    """A source and what kind it is. tell: is given what was guessed. tables: None for tars and clips with sidecars.

    packed: the tars or tables that hold the clips themselves.
    """

    source: Source
    tell: Callable[[str], None] = field(repr=False)
    tables: Tables | None
    packed: tuple[Path, ...]

    @classmethod
    def of(cls, source: Source, tell: Callable[[str], None] = lambda line: None) -> Listing:
        """Look which kind it is. Raises UserError when it is none."""
        path = source.path
        if not exists(path):
            raise UserError(f"no such file or folder: {path}")
        files = tables_of(path, tell)
        if files:
            root = path if path.is_dir() else path.parent
            tables = Tables(files, root, source.path_column, source.caption_column)
            return cls(source, tell, tables, files if tables.hold_clips() else ())
        tars = tuple(tars_of(path))
        if not tars and not path.is_dir():
            message = f"neither a folder nor a table ({', '.join(TABLES)}) nor a tar"
            raise UserError("this source cannot be read", [Problem(message=message, file=str(path), hint=SPREADSHEET)])
        return cls(source, tell, None, tars)

    def entries(self, media: MediaFolder | None = None) -> list[Entry]:
        """All clips, in the order of their keys. media: where packed ones are written. Raises UserError."""
        if self.packed and media is None:
            problem = Problem(message="holds clips; training reads files", file=str(self.packed[0]), hint=UNPACK)
            raise UserError("clips are packed in tars or tables", [problem])
        if self.tables is not None:
            return unique(self.tables.entries(self.tell, media))
        if media is None:
            return unique(sidecars(self.source.path))
        with progress("unpacking", len(self.packed), "tars") as unpacking:
            entries = []
            for tar in self.packed:
                entries += unpack(tar, self.source.path, media)
                unpacking.advance()
        return unique(entries)

    def drop_unlisted(self, entries: Iterable[Entry], drops: Drops) -> None:
        """Count the clips and pictures of a folder that its own table does not list."""
        root = self.source.path
        table = self.tables.files[0].name if self.tables is not None and root.is_dir() else ""
        if table not in METADATA:
            return
        entries = list(entries)
        listed = {abspath(entry.path) for entry in entries}
        others = [path for path in files_below(root) if path.suffix.lower() in MEDIA and abspath(path) not in listed]
        # Links lead to the same file by several paths, which takes long to find out for all.
        files = {realpath(entry.path) for entry in entries} if others else set()
        for path in others:
            if realpath(path) not in files:
                drops.add(f"not listed in {table}", str(path))


def list_entries(source: Source) -> list[Entry]:
    """All clips of a source, in the order of their keys. Raises UserError, also for one that must be unpacked."""
    return Listing.of(source).entries()
