"""The dataset `chat` from the Hub: Parquet and JSONL files, of the only subset that there is."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosmos_core.data.video import write_mp4
from tests.fake_hub import FakeHub, serving

REPO = "somebody/Dialogs"
CODE = f"""
import numpy as np
from cosmos_vlm.config import ChatConfig
from cosmos_vlm.data.chat import ChatSource
source = ChatSource(ChatConfig(type="chat", repo="{REPO}"))
order = source.epoch_permutation(np.random.default_rng(0))
chats = [source.get(int(index), np.random.default_rng(0)) for index in order]
print(sorted(chat.key for chat in chats), {{tuple(chat.messages[0].content[0].pixels.shape) for chat in chats}})
"""


def row(number: int, image: Any) -> dict[str, Any]:
    return {"id": f"row{number}", "query": "<image>What?", "response": "Noise.", "images": [image]}


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_rows_are_streamed_from_the_only_subset(tmp_path: Path, suffix: str) -> None:
    data = io.BytesIO()
    PIL.Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(data, "PNG")
    root = tmp_path / "hub"
    root.mkdir()
    if suffix == "parquet":
        image: Any = {"bytes": data.getvalue(), "path": None}
        pq.write_table(pa.Table.from_pylist([row(number, image) for number in range(5)]), root / "train.parquet")
    else:
        image = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
        (root / "train.jsonl").write_text("\n".join(json.dumps(row(number, image)) for number in range(5)))
    with serving(root, REPO) as hub:
        said = printed(CODE, hub, tmp_path)
    assert said.split("] ")[0].count("row") == 5
    assert said.endswith("{(3, 32, 64)}\n")


def printed(code: str, hub: FakeHub, folder: Path) -> str:
    """What a program prints that knows this Hub alone."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "cache")}
    arguments = [sys.executable, "-c", code]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert "%|" not in done.stderr, "the Hub client's bars are shown"
    return done.stdout


MEDIA_CODE = f"""
import numpy as np
from cosmos_core.data import UnreadableSample
from cosmos_vlm.config import ChatConfig
from cosmos_vlm.data.chat import ChatSource
source = ChatSource(ChatConfig(type="chat", repo="{REPO}"))
for index in [*range(len(source)), 1]:
    try:
        part = source.get(index, np.random.default_rng(0)).messages[0].content[0]
        print(index, type(part).__name__, tuple(part.pixels.shape))
    except UnreadableSample as error:
        print(index, error.reason)
"""


def test_media_of_streamed_rows_are_embedded_or_files_of_the_repository(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # Turned by 90 degrees.
    data = io.BytesIO()
    PIL.Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(data, "JPEG", exif=exif)
    root = tmp_path / "hub"
    (root / "media").mkdir(parents=True)
    (root / "media/a.jpg").write_bytes(data.getvalue())
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    write_mp4(root / "media/c.mp4", frames, fps=10)
    film = (root / "media/c.mp4").read_bytes()
    images = [
        {"bytes": data.getvalue(), "path": "no/such.jpg"},
        {"bytes": None, "path": "media/a.jpg"},
        {"bytes": None, "path": "media/b.jpg"},
        {"bytes": None, "path": "../a.jpg"},
        {"bytes": None, "path": "/etc/a.jpg"},
        {"bytes": None, "path": "https://example.com/a.jpg"},
    ]
    videos = [{"bytes": film, "path": None}, {"bytes": None, "path": "media/c.mp4"}, {"bytes": film[:99], "path": None}]
    rows = [{"query": "<image>What?", "response": "x", "images": [image], "videos": None} for image in images]
    rows += [{"query": "<video>What?", "response": "x", "images": None, "videos": [video]} for video in videos]
    pq.write_table(pa.Table.from_pylist(rows), root / "train.parquet")
    with serving(root, REPO) as hub:
        hub.cut = {"media/c.mp4": len(film) // 2}
        lines = printed(MEDIA_CODE, hub, tmp_path).splitlines()
    assert lines == [
        "0 Image (3, 64, 32)",
        "1 Image (3, 64, 32)",
        f"2 image is not in the repository {REPO}",
        f"3 image is not the name of a file inside the repository {REPO}",
        f"4 image is not the name of a file inside the repository {REPO}",
        "5 image is an address; download it and name the file",
        "6 Video (3, 4, 64, 64)",
        "7 Video (3, 4, 64, 64)",
        "8 its index (moov) is missing: it was cut short, or never finished",
        "1 Image (3, 64, 32)",
    ]
    asked = [name for name, _ in hub.asked if name.startswith("media/")]
    assert sorted(asked) == ["media/a.jpg", "media/c.mp4", "media/c.mp4"], "once, and again after the lost connection"
