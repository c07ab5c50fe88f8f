"""Fills a split's folder: videos are copied or downloaded, checked, and kept while their source stays the same.

Each video has a record of its source. Before a video is replaced, the record names the new source without a size; the
size is written last. So the process may end at any point.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import frozen

from cosmos_core.data import UnreadableSample
from cosmos_core.data.video import check_decodes, probe
from cosmos_core.errors import UserError
from cosmos_core.formats import check_format
from cosmos_core.strict_json import read_json
from cosmos_data_videophy.writing import FORMAT, PACKAGE, entry, write_json

__all__ = ["MANIFEST", "Split", "shared_names"]

MANIFEST = "meta.json"
ORIGINS = ".origins"
ATTEMPTS = 5
TIMEOUT = 60
CHUNK = 1 << 16


@frozen
class Split:
    """folder: of the split. beside: where copies of the videos may lie. stop: ends downloads early.

    shared: names of files that end several addresses.
    """

    folder: Path
    beside: Path
    stop: Event
    shared: frozenset[str] = frozenset()

    def prepare(self) -> None:
        """Create the folders."""
        for part in ("media", "text", ORIGINS):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def put_video(self, number: int, url: str) -> None:
        """Make sure that clip `number` is an intact video of `url`. Raises ValueError, OSError or UnreadableSample."""
        if not url:
            raise ValueError("no video_url")
        target = self.folder / entry(number)["media"]
        record = self.folder / ORIGINS / f"{target.stem}.json"
        part = target.with_name(f"{target.name}.part")
        copy = self._copy(url)
        origin = _origin(url, copy)
        known, size = _recorded(record)
        if known != origin:
            part.unlink(missing_ok=True)
            write_json(record, {"format": FORMAT, "origin": origin, "bytes": None})
        elif size is not None and _intact(target, size):
            return
        if copy is not None:
            shutil.copyfile(copy, part)
        else:
            _download(url, part, self.stop)
        try:
            check_decodes(part)
        except UnreadableSample:
            part.unlink()
            raise
        self._replace(part, target)
        write_json(record, {"format": FORMAT, "origin": origin, "bytes": target.stat().st_size})

    def put_conversation(self, number: int, dialog: dict[str, Any]) -> None:
        """Write the dialog about clip `number`."""
        path = self.folder / entry(number)["conversation"]
        if path.exists() and _json(path) != dialog:
            self._withdraw()
        write_json(path, dialog)

    def _copy(self, url: str) -> Path | None:
        name = _name(url)
        copies = (self.beside / "media" / name, self.beside / name)
        copy = next((path for path in copies if path.is_file()), None)
        if copy is not None and name in self.shared:
            raise ValueError(f"'{name}' ends several addresses of the table, so it is not clear whose copy {copy} is")
        return copy

    def _replace(self, part: Path, target: Path) -> None:
        if target.exists():
            self._withdraw()
        part.replace(target)

    def _withdraw(self) -> None:
        """Delete an earlier run's manifest before a file that it lists changes."""
        (self.folder / MANIFEST).unlink(missing_ok=True)


def shared_names(urls: Iterable[str]) -> frozenset[str]:
    """Names of files that end several addresses, whatever their queries are."""
    addresses = set()
    for url in urls:
        with suppress(ValueError):  # Its row is told of later.
            addresses.add((*urlsplit(url)[1:3], _name(url)))
    counts = Counter(name for *_, name in addresses)
    return frozenset(name for name, count in counts.items() if count > 1)


def _name(url: str) -> str:
    return Path(unquote(urlsplit(url).path)).name


def _origin(url: str, copy: Path | None) -> str:
    if copy is None:
        return url
    about = copy.stat()
    return f"{copy.resolve()} of {about.st_size} bytes, changed at {about.st_mtime_ns}"


def _recorded(record: Path) -> tuple[str, int | None]:
    """A video's source, and its bytes if it is complete; '' when the source is not known.

    Raises UserError for a newer version's record.
    """
    content = _json(record)
    check_format(content, record, FORMAT, package=PACKAGE)
    if not isinstance(content, dict):
        return "", None
    return str(content.get("origin", "")), content.get("bytes")


def _json(path: Path) -> Any:
    """A file's JSON; None when it is missing or cannot be read."""
    try:
        return read_json(path)
    except UserError:
        return None


def _intact(path: Path, size: int) -> bool:
    try:
        probe(path)
    except UnreadableSample:
        return False
    return path.stat().st_size == size


def _download(url: str, part: Path, stop: Event) -> None:
    """Resume an earlier attempt if the server supports that."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"'{url}' is not a web address, and no file of this name lies beside the table")
    retry = Retry(total=ATTEMPTS, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.mount("https://", HTTPAdapter(max_retries=retry))
        have = part.stat().st_size if part.is_file() else 0
        # Bytes of a compressed answer would be neither counted nor continued as those of the file.
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with session.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            expected = int(response.headers.get("Content-Length", 0))
            begun = have if resumed else 0
            with part.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    if stop.is_set():
                        raise InterruptedError("interrupted")
            if expected and part.stat().st_size != begun + expected:
                raise OSError(f"{part.stat().st_size - begun} of {expected} bytes came; run again to continue")
