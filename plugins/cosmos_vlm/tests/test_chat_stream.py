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

from tests.fake_hub import serving

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
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")}
        arguments = [sys.executable, "-c", CODE]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("] ")[0].count("row") == 5
    assert done.stdout.endswith("{(3, 32, 64)}\n")
