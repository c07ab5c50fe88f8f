"""`cosmos data prepare videophy2` from a server: downloads that break off, fail, change, or are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from gzip import compress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cosmos_core.data.video import write_mp4
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource
from cosmos_data_videophy.synthetic import draw
from tests.command import cosmos
from tests.fake_hub import serving

POLL = 0.01
"""Seconds that the server takes to end, at most; by default half a second."""
COLUMNS = "video_url,caption,upsampled_caption,pc,sa,joint\n"


def prepare(root: Path, *options: str, code: int = 0) -> str:
    done = cosmos("data", "prepare", "videophy2", "-o", str(root), *options, code=code)
    return done.stdout + done.stderr


def clip(seed: int) -> np.ndarray:
    return draw(1 + seed % 5, np.random.default_rng(seed)).pixels


class Server:
    """Serves mp4 files, and counts in `asked` how often it is asked for each.

    `cut` names are broken off once after half their bytes, `fail` names never come, `busy` names answer with these
    codes first. pause: seconds before every further half of a file. Who takes compressed files gets them.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.cut, self.fail, self.ranges = files, set[str](), set[str](), list[str]()
        self.busy, self.pause, self.asked = dict[str, list[int]](), 0.0, Counter[str]()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                server.asked[name] += 1
                if server.busy.get(name):
                    self.send_error(server.busy[name].pop(0))
                    return
                if name in server.fail or name not in server.files:
                    self.send_error(404)
                    return
                content, start = server.files[name], 0
                if "gzip" in self.headers.get("Accept-Encoding", ""):
                    content = compress(content)
                wanted = self.headers.get("Range")
                if wanted:
                    server.ranges.append(name)
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if wanted else 200)
                if content is not server.files[name]:
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                end = len(content)
                if name in server.cut:
                    server.cut.discard(name)
                    end = start + (end - start) // 2
                middle = start + (end - start) // 2
                for half in (content[start:middle], content[middle:end]):
                    time.sleep(server.pause)
                    with suppress(ConnectionError):
                        self.wfile.write(half)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(POLL,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    files = {}
    for number in range(4):
        write_mp4(tmp_path / "clip.mp4", clip(number), 2)
        files[f"clip{number}.mp4"] = (tmp_path / "clip.mp4").read_bytes()
    # Noise does not compress, so that half of this one is more than a chunk of the download.
    write_mp4(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 256, (8, 256, 256, 3), dtype=np.uint8), 2)
    files["clip2.mp4"] = (tmp_path / "clip.mp4").read_bytes()
    served = Server(files)
    yield served
    served.http.shutdown()


def table(folder: Path, rows: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.csv").write_text(COLUMNS + "".join(f"{row}\n" for row in rows))
    return folder


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_downloads_resume_and_failures_are_listed(tmp_path: Path, server: Server) -> None:
    rows = [f"{server.address}/clip{number}.mp4,,,{number + 1},1,0" for number in range(4)]
    rows += [f"{server.address}/none.mp4,,,3,1,0", f"{server.address}/clip0.mp4,,,9,1,0", ",,,1,1,0"]
    copy, out = table(tmp_path / "copy", rows), tmp_path / "out"
    server.cut = {"clip2.mp4"}
    server.fail = {"none.mp4"}
    said = prepare(out, "--split", "train", "--source", str(copy), code=2)
    assert "too many rows failed" in said
    assert "Traceback" not in said
    failures = {line["row"]: line["reason"] for line in map(json.loads, lines(out / "videophy2_train/failures.jsonl"))}
    assert failures.keys() == {3, 5, 6, 7}
    assert "404" in failures[5]
    assert "not 1 to 5" in failures[6]
    assert "no video_url" in failures[7]
    said = prepare(out, "--split", "train", "--source", str(copy), "--max-failures", "0.5")
    assert "4 of 7 rows, 3 failed" in said
    assert server.ranges == ["clip2.mp4"]
    media = out / "videophy2_train/media"
    assert sorted(path.name for path in media.iterdir()) == [f"video_000{number}.mp4" for number in range(1, 5)]
    for number in range(4):
        assert (media / f"video_000{number + 1}.mp4").read_bytes() == server.files[f"clip{number}.mp4"]


def test_what_is_no_video_is_refused(tmp_path: Path, server: Server) -> None:
    server.files["page.mp4"] = b"<html>not found</html>"
    copy = table(tmp_path / "copy", [f"{server.address}/page.mp4,,,3,1,0"])
    said = prepare(tmp_path / "out", "--split", "train", "--source", str(copy), code=2)
    assert "it is a web page, as of a failed download" in said
    assert not (tmp_path / "out/videophy2_train/meta.json").exists()


def test_a_busy_server_is_asked_again(tmp_path: Path, server: Server) -> None:
    server.busy = {"clip0.mp4": [429], "clip1.mp4": [500, 503]}
    copy = table(tmp_path / "copy", [f"{server.address}/clip{number}.mp4,,,3,1,0" for number in range(2)])
    assert "2 of 2 rows, 0 failed" in prepare(tmp_path / "out", "--split", "train", "--source", str(copy))
    assert server.asked == {"clip0.mp4": 2, "clip1.mp4": 3}


def test_another_table_brings_its_own_clips_and_the_same_one_keeps_them(tmp_path: Path, server: Server) -> None:
    out = tmp_path / "out"
    first = table(tmp_path / "first", [f"{server.address}/clip{number}.mp4,,,{number + 1},1,0" for number in (0, 1)])
    prepare(out, "--split", "train", "--source", str(first))
    prepare(out, "--split", "train", "--source", str(first))
    assert server.asked == {"clip0.mp4": 1, "clip1.mp4": 1}
    other = table(tmp_path / "other", [f"{server.address}/clip{number}.mp4,,,{number + 1},1,0" for number in (3, 1)])
    prepare(out, "--split", "train", "--source", str(other))
    assert server.asked == {"clip0.mp4": 1, "clip1.mp4": 1, "clip3.mp4": 1}
    source = VideophySource(VideophyConfig(type="videophy2", path=str(out)))
    assert [source.get(index, np.random.default_rng(0)).messages[1].content for index in (0, 1)] == [("4",), ("2",)]
    for number, clip_of in enumerate((3, 1), start=1):
        assert (out / f"videophy2_train/media/video_000{number}.mp4").read_bytes() == server.files[f"clip{clip_of}.mp4"]


@pytest.mark.parametrize("kind", ["garbage of the same size", "cut short", "of another tool"])
def test_what_is_there_but_not_sound_is_fetched_anew(tmp_path: Path, server: Server, kind: str) -> None:
    out = tmp_path / "out"
    copy = table(tmp_path / "copy", [f"{server.address}/clip0.mp4,,,1,1,0"])
    target, whole = out / "videophy2_train/media/video_0001.mp4", server.files["clip0.mp4"]
    if kind == "of another tool":
        target.parent.mkdir(parents=True)
        target.write_bytes(server.files["clip1.mp4"])
    else:
        prepare(out, "--split", "train", "--source", str(copy))
        target.write_bytes(b"x" * len(whole) if kind.startswith("garbage") else whole[: len(whole) // 2])
    before = server.asked["clip0.mp4"]
    prepare(out, "--split", "train", "--source", str(copy))
    assert target.read_bytes() == whole
    assert server.asked["clip0.mp4"] == before + 1


def test_what_was_begun_of_one_address_is_not_continued_with_another(tmp_path: Path, server: Server) -> None:
    server.cut = {"clip2.mp4"}
    out = tmp_path / "out"
    copy = table(tmp_path / "copy", [f"{server.address}/clip2.mp4,,,3,1,0"])
    prepare(out, "--split", "train", "--source", str(copy), code=2)
    assert (out / "videophy2_train/media/video_0001.mp4.part").stat().st_size
    table(tmp_path / "copy", [f"{server.address}/clip1.mp4,,,3,1,0"])
    prepare(out, "--split", "train", "--source", str(copy))
    assert server.ranges == []
    assert (out / "videophy2_train/media/video_0001.mp4").read_bytes() == server.files["clip1.mp4"]


@contextmanager
def started(*options: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process that takes signals, also where a shell started the tests in the background."""
    command = [sys.executable, "-m", "cosmos_core", "data", "prepare", "videophy2", *options]
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, kept)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def many(folder: Path, server: Server, count: int) -> Path:
    """A table of `count` clips that are each as large as two pieces of a download."""
    for number in range(count):
        server.files[f"many{number}.mp4"] = server.files["clip2.mp4"]
    return table(folder, [f"{server.address}/many{number}.mp4,,,{number % 5 + 1},1,0" for number in range(count)])


def test_an_interrupted_download_stops_soon_and_continues(tmp_path: Path, server: Server) -> None:
    copy, out = many(tmp_path / "copy", server, 48), tmp_path / "out"
    options = ("-o", str(out), "--split", "train", "--source", str(copy), "--workers", "2")
    server.pause = 0.5
    with started(*options) as process:
        wait_for(lambda: (out / "videophy2_train/media/video_0001.mp4").exists() and half_written(out, server))
        process.send_signal(signal.SIGINT)
        before = sum(server.asked.values())
        _, said = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not (out / "videophy2_train/meta.json").exists()
    # Each of the two workers may have been about to ask.
    assert sum(server.asked.values()) <= before + 2
    whole = sound(out, server)
    server.pause = 0.0
    asked = server.asked.copy()
    assert "48 of 48 rows, 0 failed" in prepare(out, *options[2:])
    assert len(sound(out, server)) == 48
    assert all(server.asked[name] == asked[name] for name in whole)
    assert server.ranges


def half_written(out: Path, server: Server) -> bool:
    for path in (out / "videophy2_train/media").glob("*.part"):
        with suppress(FileNotFoundError):  # It has become whole since it was listed.
            if 0 < path.stat().st_size < len(server.files["clip2.mp4"]):
                return True
    return False


def sound(out: Path, server: Server) -> list[str]:
    """The names on the server of all the clips that are there, each of which must be whole."""
    found = sorted((out / "videophy2_train/media").glob("*.mp4"))
    names = [f"many{int(path.stem.removeprefix('video_')) - 1}.mp4" for path in found]
    assert all(path.read_bytes() == server.files[name] for path, name in zip(found, names, strict=True))
    return names


def test_killed_at_any_moment_nothing_is_half_written_and_the_next_run_continues(
    tmp_path: Path, server: Server
) -> None:
    copy, out = many(tmp_path / "copy", server, 24), tmp_path / "out"
    options = ("-o", str(out), "--split", "train", "--source", str(copy), "--workers", "2")
    server.pause = 0.2
    whole: list[str] = []
    for wanted in (1, 5):
        with started(*options) as process:
            wait_for(lambda count=wanted: len(list((out / "videophy2_train/media").glob("*.mp4"))) >= count)
            os.kill(process.pid, signal.SIGKILL)
        assert not (out / "videophy2_train/meta.json").exists()
        whole = sound(out, server)
        for text in (out / "videophy2_train/text").glob("*.json"):
            assert json.loads(text.read_text())["conversations"]
    server.pause = 0.0
    before = server.asked.copy()
    prepare(out, *options[2:])
    assert len(whole) >= 5
    assert len(sound(out, server)) == 24
    # Each of the two workers may have been killed between a clip and the record about it.
    assert sum(server.asked[name] > before[name] for name in whole) <= 2
    assert len(json.loads((out / "videophy2_train/meta.json").read_text())) == 24


def test_a_manifest_is_taken_back_before_what_it_lists_changes(tmp_path: Path, server: Server) -> None:
    out, manifest = tmp_path / "out", tmp_path / "out/videophy2_train/meta.json"
    copy = table(tmp_path / "copy", [f"{server.address}/clip{number}.mp4,,,3,1,0" for number in range(2)])
    prepare(out, "--split", "train", "--source", str(copy))
    before = manifest.read_bytes()
    server.fail = set(server.files)
    table(tmp_path / "copy", [f"{server.address}/clip{number}.mp4,,,3,1,0" for number in (2, 3)])
    prepare(out, "--split", "train", "--source", str(copy), code=2)
    assert manifest.read_bytes() == before
    server.fail, server.pause = set(), 0.5
    with started("-o", str(out), "--split", "train", "--source", str(copy), "--workers", "1") as process:
        wait_for(lambda: server.asked["clip3.mp4"] == 2)
        os.kill(process.pid, signal.SIGKILL)
    assert not manifest.exists()


def test_the_table_comes_from_the_hub_and_the_videos_from_where_it_says(tmp_path: Path, server: Server) -> None:
    rows = [f"{server.address}/clip{number}.mp4,,,{number + 1},1,0" for number in range(3)]
    hub = table(tmp_path / "hub", rows)
    (hub / "data.csv").rename(hub / "videophy2_training.csv")
    (hub / "README.md").write_text("about")
    with serving(hub, "videophysics/videophy2_train") as served:
        environment = {"HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "home")}
        options = ("data", "prepare", "videophy2", "-o", str(tmp_path / "out"))
        done = cosmos(*options, "--split", "train", env=environment)
        assert {name for name, _ in served.asked} == {"videophy2_training.csv"}
        refused = cosmos(*options, "--split", "val", env=environment, code=2).stderr
    assert "3 of 3 rows, 0 failed" in done.stdout
    assert "videophysics/videophy2_test" in refused
    source = VideophySource(VideophyConfig(type="videophy2", path=str(tmp_path / "out")))
    assert [source.get(index, np.random.default_rng(0)).messages[1].content for index in range(3)] == [
        ("1",),
        ("2",),
        ("3",),
    ]
