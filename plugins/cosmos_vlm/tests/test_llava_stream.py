"""LLaVA-OneVision as a stream: who reads what, in which order, where a resumed run goes on, and the Hub's answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.config import DataloaderConfig
from cosmos_core.data import PackedLoader, Preparation
from cosmos_core.errors import UserError
from cosmos_core.hub import retries, with_retries
from cosmos_vlm.data import rows
from cosmos_vlm.data.llava_onevision import LlavaSource
from cosmos_vlm.data.shards import windowed_shuffle
from tests.fake_hub import FakeHub, serving
from tests.llava_rows import SUBSET, config_of, write_rows

REPO = "lmms-lab/LLaVA-OneVision-Data"
CARD = f"""---
configs:
- config_name: {SUBSET}
  data_files:
  - split: train
    path: {SUBSET}/train-*
- config_name: other
  data_files:
  - split: train
    path: other/train-*
---
"""


def loader_of(source: LlavaSource, *, rank: int = 0, world: int = 1, workers: int = 0) -> PackedLoader:
    config = DataloaderConfig(dataset=source._config, max_samples_per_batch=3, num_workers=workers)
    preparation = Preparation(lambda chat: chat, lambda chat: 1)
    return PackedLoader(source, config=config, preparation=preparation, rank=rank, world=world)


def keys(packs: Any) -> list[str]:
    return [item.value.key for pack in packs for item in pack.items]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("llava") / "rows"
    write_rows(place, files=4, rows=24, block=6)
    return place


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    lanes=st.integers(1, 12),
    buffer=st.integers(1, 60),
    seed=st.integers(0, 9),
)
def test_the_order_of_an_epoch_is_a_permutation(sizes: list[int], lanes: int, buffer: int, seed: int) -> None:
    first, again = (windowed_shuffle(sizes, lanes, buffer, np.random.default_rng(seed)) for _ in range(2))
    assert sorted(first) == list(range(sum(sizes)))
    assert (first == again).all()


@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_no_two_readers_touch_the_same_block(ranks: int, workers: int) -> None:
    sizes, readers = [10] * 32, ranks * workers
    order = windowed_shuffle(sizes, 8, 80, np.random.default_rng(0))
    blocks = [set((order[reader::readers] // 10).tolist()) for reader in range(readers)]
    assert sum(len(one) for one in blocks) == 32
    assert set().union(*blocks) == set(range(32))


def test_blocks_are_read_once_an_epoch_and_few_are_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[tuple[str, int]] = Counter()
    read = rows.read_block

    def counted(location: str, number: int) -> Any:
        reads[location, number] += 1
        return read(location, number)

    monkeypatch.setattr(rows, "read_block", counted)
    monkeypatch.setattr(rows, "EVICTION_FACTOR", 4)
    source = LlavaSource(config_of(folder, lanes=2, shuffle_buffer=12))
    held = []
    for index in source.epoch_permutation(np.random.default_rng(3)):
        source.get(int(index), np.random.default_rng(0))
        held.append(len(source._cache))
    assert len(reads) == 16
    assert set(reads.values()) == {1}
    assert max(held) <= 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_goes_on_with_the_same_rows(folder: Path, workers: int) -> None:
    """Position, shuffling and what the packer has set aside, in the middle of an epoch and of a block."""
    source = LlavaSource(config_of(folder, lanes=4))
    whole = list(islice(loader_of(source, workers=workers), 50))
    for stop in (1, 7, 33):
        resumed = loader_of(LlavaSource(config_of(folder, lanes=4)), workers=workers)
        resumed.load_state([whole[stop - 1].state])
        assert keys(islice(resumed, 50 - stop)) == keys(whole[stop:])


def test_a_stream_resumed_on_more_ranks_loses_and_repeats_nothing(folder: Path) -> None:
    source = LlavaSource(config_of(folder, lanes=4))
    begun = list(islice(loader_of(source), 10))
    seen = keys(begun)
    for rank in range(3):
        loader = loader_of(source, rank=rank, world=3)
        loader.load_state([begun[-1].state])
        seen += keys(islice(loader, (96 - 30) // 3 // 3))
    assert len(seen) == len(set(seen))


def test_other_rows_than_the_checkpoints_are_refused(folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", files=4, rows=23, block=6)
    state = next(iter(loader_of(LlavaSource(config_of(folder))))).state
    changed = (config_of(tmp_path / "rows"), config_of(folder, lanes=2), config_of(folder, shuffle_buffer=7))
    for config in changed:
        with pytest.raises(UserError, match="the data, or its order, has changed"):
            loader_of(LlavaSource(config)).load_state([state])


def test_a_network_that_recovers_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waited.append)
    answers = [OSError("unreachable"), OSError("unreachable"), "rows"]

    def action() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert with_retries(action, "a file") == "rows"
    assert waited == [1.0, 2.0]
    answers = [OSError("unreachable")] * 6
    with pytest.raises(UserError, match="the Hub cannot be read") as found:
        with_retries(action, "a file")
    assert waited[2:] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert "6 attempts" in found.value.problems[0].message


@pytest.fixture
def hub(folder: Path, tmp_path: Path) -> Any:
    root = tmp_path / "hub"
    root.mkdir()
    (root / SUBSET).symlink_to(folder)
    (root / "README.md").write_text(CARD)
    with serving(root, REPO) as served:
        yield served


def streamed(url: str, tmp_path: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with its Hub at `url`."""
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "cache"), **variables}
    setup = (
        "import numpy as np\nfrom cosmos_vlm.config import LlavaConfig\n"
        "from cosmos_vlm.data.llava_onevision import LlavaSource\n"
    )
    arguments = [sys.executable, "-c", setup + code]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=180, check=False)


def test_the_hubs_rows_are_those_of_the_files_and_come_block_by_block(
    hub: FakeHub, folder: Path, tmp_path: Path
) -> None:
    """Through the repository's own description of its subsets, pinned to a commit, over a network with faults."""
    hub.faults = 3
    code = (
        "import huggingface_hub\nsession, faults = huggingface_hub.get_session, [OSError('reset')]\n"
        "def sometimes():\n    if faults:\n        raise faults.pop()\n    return session()\n"
        "huggingface_hub.get_session = sometimes\n"
        "source = LlavaSource(LlavaConfig(type='llava_ov', lanes=2))\n"
        "order = source.epoch_permutation(np.random.default_rng(5))\n"
        "print(source.fingerprint)\n"
        "print([source.get(int(index), np.random.default_rng(0)).key for index in order])\n"
    )
    done = streamed(hub.url, tmp_path, code)
    assert done.returncode == 0, done.stderr
    identity, found = done.stdout.splitlines()
    assert f"hf://datasets/{REPO}@0123456789abcdef0123456789abcdef01234567/{SUBSET}" in identity
    source = LlavaSource(config_of(folder, lanes=2))
    order = source.epoch_permutation(np.random.default_rng(5))
    assert found == str([source.get(int(index), np.random.default_rng(0)).key for index in order])
    assert hub.faults == 0
    assert all(span.startswith("bytes=") for name, span in hub.asked if name.endswith(".parquet"))


def test_what_the_hub_does_not_have_is_said_with_what_it_has(hub: FakeHub, tmp_path: Path) -> None:
    absent = {"subset='ai2d(gpt4)'": "ai2d(gpt4v)", "split='test'": "one of train", "repo='lmms-lab/Absent'": "Absent"}
    code = "from cosmos_core.errors import UserError\n" + "".join(
        f"try:\n    LlavaSource(LlavaConfig(type='llava_ov', {options}))\n"
        "except UserError as error:\n    print(error, [problem.hint for problem in error.problems])\n"
        for options in absent
    )
    done = streamed(hub.url, tmp_path, code)
    errors = done.stdout.split("the dataset cannot be streamed")[1:]
    assert len(errors) == len(absent), done.stdout + done.stderr
    assert all(said in error for error, said in zip(errors, absent.values(), strict=True)), errors


def test_without_a_network_a_local_copy_is_proposed(tmp_path: Path) -> None:
    """Offline, since the Hub's client would wait for a network that is down."""
    code = (
        "from cosmos_core.errors import UserError\n"
        "try:\n    LlavaSource(LlavaConfig(type='llava_ov'))\n"
        "except UserError as error:\n    print(error, [problem.hint for problem in error.problems])\n"
    )
    done = streamed("http://127.0.0.1:9", tmp_path, code, HF_HUB_OFFLINE="1")
    assert "the Hub cannot be read" in done.stdout, done.stderr
    assert "dataloader_train.dataset.path" in done.stdout
    assert "attempt" not in done.stdout + done.stderr


def test_a_hub_that_cannot_be_reached_is_told_without_long_waits(tmp_path: Path) -> None:
    code = "from cosmos_core.hub import retries\nretries.time.sleep = print\nLlavaSource(LlavaConfig(type='llava_ov'))"
    done = streamed("http://127.0.0.1:9", tmp_path, code)
    assert done.stdout.split() == ["1.0", "2.0", "4.0"]
    assert "the Hub cannot be read" in done.stderr
    assert "Retrying" not in done.stderr
