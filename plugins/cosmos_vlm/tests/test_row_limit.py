"""`limit` of the dataset `llava_ov`: the first so many rows, whatever the files and blocks they lie in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cosmos_vlm.config import LlavaConfig
from cosmos_vlm.data.llava_onevision import LlavaSource


def row(number: int) -> dict[str, Any]:
    data = io.BytesIO()
    Image.new("RGB", (32, 32)).save(data, "PNG")
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]
    return {"id": str(number), "image": {"bytes": data.getvalue(), "path": None}, "conversations": said}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty rows in two files, in blocks of three."""
    root = tmp_path_factory.mktemp("rows")
    for file in range(2):
        table = pa.Table.from_pylist([row(10 * file + number) for number in range(10)])
        pq.write_table(table, root / f"train-{file}.parquet", row_group_size=3)
    return root


def source_of(folder: Path, limit: int | None) -> LlavaSource:
    return LlavaSource(LlavaConfig(type="llava_ov", path=str(folder), limit=limit))


def keys(source: LlavaSource) -> list[str]:
    random = np.random.default_rng(0)
    return [source.get(index, random).key for index in range(len(source))]


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 11, 19, 20, 1000])
def test_the_first_rows_are_there_and_no_other(folder: Path, limit: int) -> None:
    assert keys(source_of(folder, limit)) == [str(number) for number in range(min(limit, 20))]


@pytest.mark.parametrize("limit", [1, 7, 11])
def test_an_epoch_is_an_order_of_those_rows(folder: Path, limit: int) -> None:
    order = source_of(folder, limit).epoch_permutation(np.random.default_rng(1))
    assert sorted(order.tolist()) == list(range(limit))


def test_other_limits_are_other_data(folder: Path) -> None:
    named = {source_of(folder, limit).fingerprint for limit in (None, 7, 8)}
    assert len(named) == 3
    assert source_of(folder, None).fingerprint == source_of(folder, 20).fingerprint
