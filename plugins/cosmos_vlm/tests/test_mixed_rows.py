"""Rows of dialogs as members of a mixture, and rows that change between a stop and a resume."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_core.config import DataloaderConfig
from cosmos_core.data import PackedLoader, Preparation
from cosmos_core.data.mixture import Member, Mixture
from cosmos_vlm.config import ChatConfig, RowsConfig
from cosmos_vlm.data.chat import ChatSource
from cosmos_vlm.data.llava_onevision import LlavaSource
from tests.llava_rows import config_of, write_rows


def dialogs(path: Path, numbers: list[int], *, ids: bool) -> ChatConfig:
    """A JSONL file in which dialog n says n."""
    rows = [
        {**({"id": f"row{number}"} if ids else {}), "query": "Which one?", "response": f"number {number}"}
        for number in numbers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ChatConfig(type="chat", path=str(path), weight=1.0, changed="accept", lanes=4)


def loader_of(configs: list[RowsConfig], *, rank: int = 0, world: int = 1, workers: int = 0, **options: Any) -> Any:
    kinds = {"chat": ChatSource, "llava_ov": LlavaSource}
    members = [
        Member(source=kinds[config.type](config), name=f"m{number}", weight=1 + number, key=f"mixture[{number}]")
        for number, config in enumerate(configs)
    ]
    config = DataloaderConfig(mixture=tuple(configs), num_workers=workers, max_samples_per_batch=3, **options)
    preparation = Preparation(lambda chat: chat, lambda chat: 1)
    return PackedLoader(Mixture(members), config=config, preparation=preparation, rank=rank, world=world)


def answers(packs: Any, name: str) -> Counter[str]:
    return Counter(item.value.messages[-1].content[0] for pack in packs for item in pack.items if item.dataset == name)


@pytest.mark.parametrize("options", [{}, {"packing": "pool", "max_sequence_length": 9}], ids=str)
def test_streams_resume_exactly_on_other_ranks_and_workers(tmp_path: Path, options: dict[str, Any]) -> None:
    write_rows(tmp_path / "rows", files=2, rows=12, block=4)
    configs = [config_of(tmp_path / "rows"), dialogs(tmp_path / "d.jsonl", [*range(30)], ids=True)]

    def keyed(packs: Any) -> dict[int, str]:
        return {item.position: item.key for pack in packs for item in pack.items}

    alone = keyed(islice(loader_of(configs), 40))
    parts = [list(islice(loader_of(configs, rank=rank, world=2, workers=1, **options), 9)) for rank in range(2)]
    moved = loader_of(configs, **options)
    moved.load_state([packs[-1].state for packs in parts])
    used = keyed([*parts[0], *parts[1]])
    assert len(used) == 54
    used |= keyed(islice(moved, 15))
    assert len(used) == 99
    assert all(alone[position] == key for position, key in used.items() if position in alone)


@pytest.mark.parametrize("ids", [True, False], ids=["rows with ids", "rows without"])
def test_an_epoch_goes_on_with_the_rows_that_it_has_not_seen(tmp_path: Path, ids: bool) -> None:
    configs = [
        dialogs(tmp_path / "other.jsonl", [*range(100, 140)], ids=ids),
        dialogs(tmp_path / "before.jsonl", [*range(40)], ids=ids),
    ]
    packs = list(islice(loader_of(configs), 10))
    seen = answers(packs, "m1")
    assert seen.total() == 20
    now = [*range(7, 40), *range(50, 55)]
    configs[1] = dialogs(tmp_path / "after.jsonl", now, ids=ids)
    loader = loader_of(configs)
    loader.load_state([packs[-1].state])
    left = Counter(f"number {number}" for number in now) - seen
    later = list(islice(loader, 60))
    positions = sorted((item.position, item) for pack in later for item in pack.items if item.dataset == "m1")
    came = Counter(item.value.messages[-1].content[0] for _, item in positions[: left.total()])
    assert came == left
    others = answers([*packs, *later], "m0")
    assert max(others.values()) - min(others.values()) <= 1
    assert len(others) == 40
    assert list(loader.changes) == ["dataloader_train.mixture[1]"]


def test_a_row_is_read_once_for_its_identity_and_its_content(tmp_path: Path) -> None:
    source = ChatSource(dialogs(tmp_path / "d.jsonl", [*range(5)], ids=False))
    before = source._reads
    identities = []
    for index in range(1, 5):
        identities.append(source.identity(index))
        source.get(index, np.random.default_rng(0))
    assert source._reads - before == 4
    assert len(set(identities)) == 4
