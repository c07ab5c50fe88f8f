"""A small Hub on this machine: one repository over HTTP, of data or of a model, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import define, field

__all__ = ["FakeHub", "serving"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
POLL = 0.01
"""Seconds that the server takes to end, at most; by default half a second."""
ABSENT = ({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})


@define
class FakeHub:
    """repo: its only repository. kind: 'datasets' or 'models'. faults: answers of 503 that are still to be given to
    requests for Parquet files. asked: ranges of each file whose content was asked for, as the header says them. cut:
    files whose first answer ends after so many bytes, as of a connection that is lost.
    """

    url: str
    repo: str
    root: Path
    kind: str = "datasets"
    faults: int = 0
    cut: dict[str, int] = field(factory=dict)
    asked: list[tuple[str, str]] = field(factory=list)
    lock: threading.Lock = field(factory=threading.Lock)


@contextmanager
def serving(root: Path, repo: str, kind: str = "datasets") -> Iterator[FakeHub]:
    """Serve the files below `root` as a repository."""
    hub = FakeHub("", repo, root, kind)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(POLL,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: FakeHub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        found = [
            self._entry(self.hub.root / path) for path in wanted.get("paths", []) if (self.hub.root / path).exists()
        ]
        self._json(found)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        api = f"/api/{self.hub.kind}/{self.hub.repo}"
        content = f"{'/datasets' if self.hub.kind == 'datasets' else ''}/{self.hub.repo}/resolve/"
        if path.startswith(content):
            revision, name = path.removeprefix(content).split("/", 1)
            self._file(name, revision, body=body)
        elif path.startswith(f"{api}/tree/"):
            self._tree(path.removeprefix(f"{api}/tree/").partition("/")[2])
        elif path == api or path.startswith(f"{api}/revision/"):
            names = sorted(str(one.relative_to(self.hub.root)) for one in self.hub.root.rglob("*") if one.is_file())
            siblings = [{"rfilename": name} for name in names]
            commit = _commit(path.rpartition("/")[2])
            about = {"id": self.hub.repo, "sha": commit, "private": False, "downloads": 0, "likes": 0, "tags": []}
            self._json({**about, "siblings": siblings})
        else:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def _tree(self, below: str) -> None:
        folder = self.hub.root / below
        if not folder.is_dir():
            return self._json(*ABSENT)
        every = sorted(folder.rglob("*") if "recursive=true" in self.path.lower() else folder.iterdir())
        return self._json([self._entry(one) for one in every])

    def _entry(self, path: Path) -> dict[str, Any]:
        name = str(path.relative_to(self.hub.root))
        kind = "directory" if path.is_dir() else "file"
        size = 0 if path.is_dir() else path.stat().st_size
        return {"type": kind, "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": size}

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _file(self, name: str, revision: str, *, body: bool) -> None:
        path = self.hub.root / name
        if not path.is_file():
            return self._json(*ABSENT)
        if body and self._fails(name, path.suffix == ".parquet"):
            return self._json({"error": "overloaded"}, 503)
        cut = self.hub.cut.pop(name, None) if body else None
        return self._content(path, _commit(revision), cut, body=body)

    def _fails(self, name: str, may_fail: bool) -> bool:
        """Note the request; whether it is to fail."""
        with self.hub.lock:
            self.hub.asked.append((name, self.headers.get("Range") or ""))
            failing = may_fail and self.hub.faults > 0
            self.hub.faults -= failing
        return failing

    def _content(self, path: Path, commit: str, cut: int | None, *, body: bool) -> None:
        span = self.headers.get("Range")
        data = path.read_bytes()
        total, tag = len(data), hashlib.sha1(data).hexdigest()
        self.send_response(206 if span else 200)
        if span:
            first, _, last = span.removeprefix("bytes=").partition("-")
            end = min(int(last), total - 1) if last else total - 1
            data = data[int(first) : end + 1]
            self.send_header("Content-Range", f"bytes {first}-{end}/{total}")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{tag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            self.wfile.write(data[:cut])
            self.close_connection = self.close_connection or cut is not None


def _commit(revision: str) -> str:
    """A revision that is a commit is itself; a branch points to COMMIT."""
    return revision if len(revision) == len(COMMIT) else COMMIT
