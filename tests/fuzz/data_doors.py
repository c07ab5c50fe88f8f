"""Doors of datasets: folders, tables, tars, manifests, dialogs."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from cosmos_core.data import MapSource, UnreadableSample
from cosmos_core.data.jsonl import ClipFilter, captions_of, read_clips
from cosmos_data_bridge.captions import check_captions, choose
from cosmos_data_bridge.folder.listing import Listing, Source
from cosmos_data_bridge.folder.media import MediaFolder
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource
from cosmos_data_videophy.tables import find_table, read_rows
from cosmos_vlm.config import ChatConfig, LlavaConfig
from cosmos_vlm.data.chat import ChatSource
from cosmos_vlm.data.llava_onevision import LlavaSource
from tests.fuzz.doors import Door

__all__ = ["data_doors"]

CLIPS = [
    {
        "uuid": f"clip{number}",
        "vision_path": f"{number}.mp4",
        "width": 64,
        "height": 64,
        "duration": 1.2,
        "nb_frames": 12,
        "t2w_windows": [{"start_frame": 0, "end_frame": 8, "temporal_interval": 1, "caption": "a ball"}],
    }
    for number in range(3)
]
TABLE = [{"path": f"{number}.mp4", "caption": f"clip {number}, falling"} for number in range(3)]
DIALOGS = [
    {"id": "a", "messages": [{"role": "user", "content": "<image>what?"}, {"role": "assistant", "content": "3"}],
     "images": ["a.png"]},
    {"id": "b", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]},
    {"query": "and?", "response": "no", "history": [["one", "two"]], "tools": '[{"name": "f"}]'},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image", "image": "a.png"}]},
                  {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
                  {"role": "tool", "content": "4"}, {"role": "assistant", "content": "4"}]},
]  # fmt: skip
LLAVA = [
    {
        "id": "r",
        "image": "a.png",
        "conversations": [{"from": "human", "value": "<image>\nW?"}, {"from": "gpt", "value": "n"}],
    }
] * 2
SCORES = [{"video_url": "http://x/a.mp4", "caption": "a", "pc": "3", "sa": "4", "joint": "1", "category": "c"}] * 3
MEDIA = {f"{number}.mp4": b"no video" for number in range(3)}


def lines(rows: list[dict[str, Any]]) -> bytes:
    """As JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def csv(rows: list[dict[str, Any]], mark: str = ",") -> bytes:
    """As CSV or TSV; the values need no quotes but one."""
    cells = [list(rows[0]), *([f'"{value}"' for value in row.values()] for row in rows)]
    return "".join(mark.join(row) + "\n" for row in cells).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """As Parquet."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def arrow(rows: list[dict[str, Any]]) -> bytes:
    """As `datasets` saves it."""
    out, table = io.BytesIO(), pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return out.getvalue()


def tar(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """As WebDataset has it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def png() -> bytes:
    """A picture."""
    out = io.BytesIO()
    PIL.Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def every_sample(source: MapSource) -> None:
    """Each of a dataset, or why it is unreadable."""
    assert source.fingerprint is not None
    for index in range(min(len(source), 8)):
        with contextlib.suppress(UnreadableSample):
            source.get(index, np.random.default_rng(0))


def clips(name: str) -> Any:
    """Reads a manifest of clips, and all their captions."""

    def enter(folder: Path) -> None:
        index = read_clips(folder / name, folder, ClipFilter(61.0, 0, 1), check=check_captions)
        for clip in index.clips:
            for window in clip.windows:
                choose(captions_of(clip, window), np.random.default_rng(0))

    return enter


def listed(name: str) -> Any:
    """Lists a source of clips, unpacking it where it is packed."""

    def enter(folder: Path) -> None:
        media = folder.parent / "media"
        listing = Listing.of(Source(folder / name if name else folder))
        listing.entries(MediaFolder(media) if listing.packed else None)

    return enter


def scores(name: str) -> Any:
    """Reads a table of VideoPhy-2."""

    def enter(folder: Path) -> None:
        for row in read_rows(find_table(folder / name if name else folder, "train"), ("video_url", "pc")):
            assert all(isinstance(value, str) for value in row.values())

    return enter


def data_doors() -> Iterator[Door]:
    """All of them."""
    packed = {"a.mp4": b"no video", "a.txt": b"a ball", "b.mp4": b"no video", "b.json": b'{"caption": "a cube"}'}
    embedded = [{"video": {"bytes": b"no video", "path": f"{number}.mp4"}, "text": "x"} for number in range(2)]
    yield Door("clips", {"c.jsonl": lines(CLIPS), **MEDIA}, clips("c.jsonl"), 8)
    yield Door("zipped clips", {"c.jsonl.gz": gzip.compress(lines(CLIPS)), **MEDIA}, clips("c.jsonl.gz"))
    yield Door("CSV", {"t.csv": csv(TABLE), **MEDIA}, listed("t.csv"))
    yield Door("TSV", {"metadata.tsv": csv(TABLE, "\t"), **MEDIA}, listed(""))
    yield Door("JSONL", {"t.jsonl": lines(TABLE), **MEDIA}, listed("t.jsonl"))
    yield Door("Parquet", {"t.parquet": parquet(TABLE), **MEDIA}, listed("t.parquet"))
    yield Door("Parquet with clips", {"t.parquet": parquet(embedded)}, listed(""))
    yield Door("Arrow", {"t.arrow": arrow(embedded)}, listed("t.arrow"))
    yield Door("sidecars", packed, listed(""))
    yield Door("tar", {"t.tar": tar(packed)}, listed(""))
    yield Door("old tar", {"t.tar": tar(packed, tarfile.GNU_FORMAT)}, listed("t.tar"))
    yield Door("CSV of scores", {"data.csv": csv(SCORES)}, scores(""))
    yield Door("Parquet of scores", {"train.parquet": parquet(SCORES)}, scores(""))
    manifest = [{"id": "a", "media": "a.mp4", "conversation": "a.json", "category": "c"}]
    yield Door(
        "VideoPhy-2",
        {"videophy2_train/meta.json": json.dumps(manifest).encode(), "videophy2_train/a.mp4": b"no video",
         "videophy2_train/a.json": json.dumps(DIALOGS[1]).encode()},
        lambda folder: every_sample(VideophySource(VideophyConfig(type="videophy2", path=str(folder)))),
    )  # fmt: skip
    for name, content in (
        ("d.jsonl", lines(DIALOGS)), ("d.json", json.dumps(DIALOGS).encode()), ("d.parquet", parquet(DIALOGS[1:2]))
    ):  # fmt: skip
        yield Door(
            f"dialogs in {name}",
            {name: content, "a.png": png()},
            lambda folder: every_sample(ChatSource(ChatConfig(type="chat", path=str(folder)))),
        )
    yield Door(
        "LLaVA",
        {"l.json": json.dumps(LLAVA).encode(), "a.png": png()},
        lambda folder: every_sample(LlavaSource(LlavaConfig(type="llava_ov", path=str(folder)))),
    )
