"""A checkpoint from a stranger is data: nothing in it is executed."""

from __future__ import annotations

import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import CheckpointException

from cosmos_core.checkpoint.load import load_component, load_loader_states
from cosmos_core.checkpoint.reader import stored_keys
from cosmos_core.checkpoint.save import save_checkpoint
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import UserError

RECORDS = "torch.distributed.checkpoint.metadata"


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    state = {"net.weight": torch.arange(4.0), "note": "plain"}
    return save_checkpoint(tmp_path, 7, {"model": state}, {"world": 1}, local_mesh())


def test_what_was_saved_comes_back(saved: Path) -> None:
    state = {"net.weight": torch.zeros(4), "note": ""}
    load_component(saved / "model", state, local_mesh())
    assert state["net.weight"].tolist() == [0, 1, 2, 3]
    assert state["note"] == "plain"
    assert load_loader_states(saved / "dataloader") == [{"world": 1}]


def test_poisoned_metadata_is_refused_unexecuted(saved: Path, tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    (saved / "model/.metadata").write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(UserError, match="nothing was loaded"):
        stored_keys(saved / "model")
    assert not marker.exists()


def test_metadata_may_not_reach_through_what_its_module_imports(saved: Path, tmp_path: Path) -> None:
    """DCP's module of records imports os; a dotted name would find os.system in it."""
    marker = tmp_path / "owned"
    words = [pickle.SHORT_BINUNICODE + bytes([len(word)]) + word.encode() for word in (RECORDS, "os.system")]
    command = f"touch {marker}".encode()
    call = pickle.BINUNICODE + len(command).to_bytes(4, "little") + command + pickle.TUPLE1 + pickle.REDUCE
    poison = pickle.PROTO + b"\x04" + b"".join(words) + pickle.STACK_GLOBAL + call + pickle.STOP
    (saved / "model/.metadata").write_bytes(poison)
    with pytest.raises(UserError, match=r"it names .*os\.system"):
        stored_keys(saved / "model")
    assert not marker.exists()


def test_a_poisoned_entry_is_refused_unexecuted(tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    state = {"net.weight": torch.arange(4.0), "note": Bomb(marker)}
    saved = save_checkpoint(tmp_path, 7, {"model": state}, {}, local_mesh())
    with pytest.raises(UserError):
        load_component(saved / "model", {"note": ""}, local_mesh())
    assert not marker.exists()


def test_a_poisoned_loader_state_is_refused_unexecuted(saved: Path, tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    (saved / "dataloader/rank_0.pkl").write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(UserError, match="cannot be read"):
        load_loader_states(saved / "dataloader")
    assert not marker.exists()


def test_a_cut_metadata_file_is_one_clear_error(saved: Path) -> None:
    whole = (saved / "model/.metadata").read_bytes()
    (saved / "model/.metadata").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="nothing was loaded"):
        stored_keys(saved / "model")


def test_leftovers_of_a_killed_save_are_removed_by_the_next(saved: Path) -> None:
    checkpoints = saved.parent
    shutil.copytree(saved, checkpoints / ".iter_000000008.partial")
    save_checkpoint(checkpoints, 9, {"model": {"net.weight": torch.zeros(1)}}, {}, local_mesh())
    assert {path.name for path in checkpoints.iterdir()} == {
        "iter_000000007",
        "iter_000000009",
        "latest_checkpoint.txt",
    }


def test_saving_a_step_again_replaces_it_whole(saved: Path) -> None:
    save_checkpoint(saved.parent, 7, {"model": {"net.other": torch.ones(2)}}, {}, local_mesh())
    assert stored_keys(saved / "model") == {"net.other"}
    assert {path.name for path in saved.parent.iterdir()} == {"iter_000000007", "latest_checkpoint.txt"}


def damaged(whole: bytes, random: Random) -> Iterator[bytes]:
    """Cut short, and with one bit the other way."""
    for _ in range(150):
        yield whole[: random.randrange(len(whole))]
        place = random.randrange(len(whole))
        yield whole[:place] + bytes([whole[place] ^ 1 << random.randrange(8)]) + whole[place + 1 :]


@pytest.mark.parametrize("name", ["model/.metadata", "model/__0_0.distcp", "dataloader/rank_0.pkl"])
def test_damage_anywhere_is_one_clear_error_or_none(saved: Path, name: str) -> None:
    ended: Counter[str] = Counter()
    for content in damaged((saved / name).read_bytes(), Random(0)):
        (saved / name).write_bytes(content)
        ended[loading(saved)] += 1
    assert ended["refused"] >= 150
    assert ended.keys() <= {"loaded", "refused", "does not fit"}


def loading(saved: Path) -> str:
    """How it ends; metadata that can be read may speak of other entries or sizes than are asked for."""
    state = {"net.weight": torch.zeros(4), "note": ""}
    try:
        load_component(saved / "model", state, local_mesh())
        load_loader_states(saved / "dataloader")
    except UserError:
        return "refused"
    except CheckpointException as error:
        causes = [str(cause) for cause, _ in error.failures.values()]
        fits = not all(cause.startswith(("Missing key in checkpoint", "Size mismatch between")) for cause in causes)
        return str(causes) if fits else "does not fit"
    return "loaded"
