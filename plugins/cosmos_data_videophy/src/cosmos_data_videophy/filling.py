"""A split's folder while it is filled: videos copied or downloaded, checked, and kept while their origin is the same.

Each video has a record of what it was made from. Before another one takes its place the record says so, and that it is
not whole yet; its size is written last, so that a process may end anywhere in between.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import frozen

from cosmos_core.data import UnreadableSample
from cosmos_core.data.video import decode_frames
from cosmos_core.formats import check_format
from cosmos_data_videophy.writing import FORMAT, PACKAGE, entry, write_json

__all__ = ["MANIFEST", "Split"]

MANIFEST = "meta.json"
ORIGINS = ".origins"
ATTEMPTS = 5
TIMEOUT = 60
CHUNK = 1 << 16


@frozen
class Split:
    """folder: the split's. beside: where copies of the videos may lie. stop: set when nobody waits any more."""

    folder: Path
    beside: Path
    stop: Event

    def prepare(self) -> None:
        """Make the folders that files are put into."""
        for part in ("media", "text", ORIGINS):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def put_video(self, number: int, url: str) -> None:
        """Leave a sound video of `url` as clip `number`. Raises ValueError, OSError or UnreadableSample."""
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
        elif size is not None and _sound(target, size):
            return
        if copy is not None:
            shutil.copyfile(copy, part)
        else:
            _download(url, part, self.stop)
        try:
            decode_frames(part, [0])
        except UnreadableSample:
            part.unlink()
            raise
        self._replace(part, target)
        write_json(record, {"format": FORMAT, "origin": origin, "bytes": target.stat().st_size})

    def put_conversation(self, number: int, dialog: dict[str, Any]) -> None:
        """Leave the dialog about clip `number`."""
        path = self.folder / entry(number)["conversation"]
        if path.exists() and _json(path) != dialog:
            self._withdraw()
        write_json(path, dialog)

    def _copy(self, url: str) -> Path | None:
        name = Path(unquote(urlsplit(url).path)).name
        copies = (self.beside / "media" / name, self.beside / name)
        return next((path for path in copies if path.is_file()), None)

    def _replace(self, part: Path, target: Path) -> None:
        if target.exists():
            self._withdraw()
        part.replace(target)

    def _withdraw(self) -> None:
        """Take back an earlier run's manifest, before something changes that it lists."""
        (self.folder / MANIFEST).unlink(missing_ok=True)


def _origin(url: str, copy: Path | None) -> str:
    if copy is None:
        return url
    about = copy.stat()
    return f"{copy.resolve()} of {about.st_size} bytes, changed at {about.st_mtime_ns}"


def _recorded(record: Path) -> tuple[str, int | None]:
    """What a video was made from, and its bytes once it was whole; '' when that is not known.

    Raises UserError for a newer version's record.
    """
    found = _json(record)
    check_format(found, record, FORMAT, package=PACKAGE)
    if not isinstance(found, dict):
        return "", None
    return str(found.get("origin", "")), found.get("bytes")


def _json(path: Path) -> Any:
    """None for what is not there or cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _sound(path: Path, size: int) -> bool:
    try:
        decode_frames(path, [0])
    except UnreadableSample:
        return False
    return path.stat().st_size == size


def _download(url: str, part: Path, stop: Event) -> None:
    """Continue where an earlier attempt stopped, if the server can."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"'{url}' is no web address, and no file of this name lies beside the table")
    retry = Retry(total=ATTEMPTS, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.mount("https://", HTTPAdapter(max_retries=retry))
        have = part.stat().st_size if part.is_file() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with session.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                return
            answer.raise_for_status()
            resumed = answer.status_code == requests.codes.partial_content
            expected = int(answer.headers.get("Content-Length", 0))
            begun = have if resumed else 0
            with part.open("ab" if resumed else "wb") as file:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    if stop.is_set():
                        raise InterruptedError("interrupted")
            if expected and part.stat().st_size != begun + expected:
                raise OSError(f"{part.stat().st_size - begun} of {expected} bytes came; run again to continue")
