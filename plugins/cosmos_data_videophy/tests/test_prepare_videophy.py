"""`cosmos data prepare videophy2`: drawn clips, a local copy, and downloads that break off."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cosmos_core.data.video import decode_frames, write_mp4
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource
from cosmos_data_videophy.question import RUBRIC
from cosmos_data_videophy.synthetic import FRAMES, draw
from tests.command import cosmos

COLUMNS = "video_url,caption,upsampled_caption,pc,sa,joint\n"


def prepare(root: Path, *options: str, code: int = 0) -> str:
    done = cosmos("data", "prepare", "videophy2", "-o", str(root), *options, code=code)
    return done.stdout + done.stderr


def clip(seed: int) -> np.ndarray:
    return draw(1 + seed % 5, np.random.default_rng(seed)).pixels


class Server:
    """Serves mp4 files; `cut` names are broken off once after half their bytes, `fail` names never come."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.cut, self.fail, self.ranges = files, set[str](), set[str](), list[str]()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                if name in server.fail or name not in server.files:
                    self.send_error(404)
                    return
                content, start = server.files[name], 0
                wanted = self.headers.get("Range")
                if wanted:
                    server.ranges.append(name)
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                end = len(content)
                if name in server.cut:
                    server.cut.discard(name)
                    end = start + (end - start) // 2
                self.wfile.write(content[start:end])

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

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


def test_drawn_clips_are_the_same_for_a_seed_and_balanced(tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        prepare(tmp_path / name, "--synthetic", "20", "--val", "10", "--seed", seed)
    first, second, third = (
        {
            str(path.relative_to(tmp_path / name)): sha256(path.read_bytes()).hexdigest()
            for path in files(tmp_path / name)
        }
        for name in "abc"
    )
    assert first == second
    assert first != third
    source = VideophySource(VideophyConfig(type="videophy2", path=str(tmp_path / "a")))
    chats = [source.get(index, np.random.default_rng(0)) for index in range(20)]
    assert Counter(str(chat.turns[1].parts[0]) for chat in chats) == dict.fromkeys("12345", 4)
    assert "already there" in prepare(tmp_path / "a", "--synthetic", "20", "--val", "10")
    assert "something else" in prepare(tmp_path / "a", "--synthetic", "25", "--val", "10", code=2)


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_neither_end_of_a_drawn_path_tells_the_grade() -> None:
    """Ball positions of the first and last frame have the same spread in every grade."""
    means = []
    for grade in range(1, 6):
        heights = []
        for seed in range(60):
            bright = draw(grade, np.random.default_rng(seed)).pixels.astype(float).mean(-1) > 180
            heights.append([np.nonzero(bright[frame])[0].mean() for frame in (0, FRAMES - 1)])
        means.append(np.mean(heights, axis=0))
    assert np.ptp(np.array(means), axis=0).max() < 6


def test_a_local_copy_needs_no_network(tmp_path: Path) -> None:
    copy = table(tmp_path / "copy", ["http://gone.invalid/a/clip.mp4,falls,a ball falls,4,3,0"])
    write_mp4(copy / "clip.mp4", clip(0), 2)
    said = prepare(tmp_path / "out", "--split", "train", "--source", str(copy), "--include-caption")
    assert "1 of 1 rows, 0 failed" in said
    (entry,) = json.loads((tmp_path / "out/videophy2_train/meta.json").read_text())
    assert entry == {
        "id": "conversation_0001",
        "media": "media/video_0001.mp4",
        "conversation": "text/conversation_0001.json",
    }
    question, answer = json.loads((tmp_path / "out/videophy2_train" / entry["conversation"]).read_text())[
        "conversations"
    ]
    assert question["content"][0] == {"type": "video", "video": "video_0"}
    assert question["content"][1]["text"] == f"{RUBRIC}\nCaption: a ball falls"
    assert answer["content"] == [{"type": "text", "text": "4"}]


def test_the_test_split_becomes_the_validation_folder(tmp_path: Path) -> None:
    copy = table(tmp_path / "copy/videophy2_test", ["clip.mp4,,,2,1,1"])
    write_mp4(copy / "clip.mp4", clip(1), 2)
    prepare(tmp_path / "out", "--split", "test", "--source", str(tmp_path / "copy"), "--score-field", "joint")
    text = (tmp_path / "out/videophy2_val/text/conversation_0001.json").read_text()
    assert json.loads(text)["conversations"][1]["content"][0]["text"] == "yes"


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


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_what_is_no_video_is_refused(tmp_path: Path, server: Server) -> None:
    server.files["page.mp4"] = b"<html>not found</html>"
    copy = table(tmp_path / "copy", [f"{server.address}/page.mp4,,,3,1,0"])
    said = prepare(tmp_path / "out", "--split", "train", "--source", str(copy), code=2)
    assert "not a video" in said
    assert not (tmp_path / "out/videophy2_train/meta.json").exists()


def test_a_folder_without_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = prepare(tmp_path / "out", "--split", "train", "--source", str(tmp_path / "empty"), code=2)
    assert "videophy2_training.csv" in said


def test_drawn_frames_survive_the_codec(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", clip(4), 2)
    assert np.abs(decode_frames(tmp_path / "clip.mp4", range(FRAMES)).astype(int) - clip(4)).mean() < 3
