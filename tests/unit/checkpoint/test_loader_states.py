"""What a checkpoint says of the data is believed only where a loader could have written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.checkpoint import load_loader_states
from cosmos_core.checkpoint.load import load_component
from cosmos_core.checkpoint.save import save_checkpoint
from cosmos_core.data.workers import lost_workers_explained
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import RankLost, UserError

MEMBER = {"weight": 1.0, "size": 20, "epoch": 1, "left": {0: b"\xff\xff\xf0"}}
STATE: dict[str, Any] = {
    "format": 2,
    "world": 2,
    "frontier": 12,
    "aside": [3, 5],
    "data": {"a": "20 rows"},
    "order": {"origin": 4, "members": {"a": MEMBER}},
    "used": {"a": {0: b"12345678"}},
}


def loaded(folder: Path, *states: Any) -> list[Any]:
    for number, state in enumerate(states):
        torch.save(state, folder / f"rank_{number}.pkl")
    return load_loader_states(folder)


def test_a_state_of_a_loader_is_read(tmp_path: Path) -> None:
    states = [STATE, {**STATE, "frontier": 13, "aside": []}]
    assert loaded(tmp_path, *states) == states


def test_a_state_of_another_program_is_left_to_the_caller(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"world": "x"}) == [{"world": "x"}]


def test_a_file_that_is_no_ranks_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "rank_copy.pkl").write_bytes(b"")
    assert loaded(tmp_path, STATE) == [STATE]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"world": value} for value in (0, -1, "2", True, None, 2.0, 10**400)),
        *({"frontier": value} for value in (-1, "12", 1.5, None, [], 10**400, float("inf"))),
        *({"aside": value} for value in (None, "35", {}, [-1], [12], ["3"], [3, 3], [True], [10**400])),
        *({"data": value} for value in (3, ["a"], {"a": 1})),
        *(
            {"used": value}
            for value in ([], {"a": []}, {"a": {0: "x"}}, {"a": {-1: b"12345678"}}, {"a": {0: b"123"}}, {1: {}})
        ),
        *({"order": value} for value in ([], {}, {"origin": 0}, {"origin": 13, "members": {}}, {"origin": "0"})),
        *(
            {"order": {"origin": 0, "members": {"a": {**MEMBER, **member}}}}
            for member in (
                *({"weight": value} for value in (0, -1.0, float("nan"), float("inf"), "1")),
                *({"size": value} for value in (0, -1, "20", 10**400)),
                *({"epoch": value} for value in (-1, None)),
                *({"left": value} for value in (None, {0: b"1"}, {"0": b"\xff\xff\xf0"}, {0: [1]})),
            )
        ),
        {"order": {"origin": 0, "members": {"a": None}}},
    ],
    ids=str,
)
def test_types_and_ranges_are_checked(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError) as refused:
        loaded(tmp_path, {**STATE, **wrong})
    (problem,) = refused.value.problems
    assert problem.file == str(tmp_path)
    assert "in the form in which a loader writes it" in problem.message


@pytest.mark.parametrize("other", [{"world": 3}, {"frontier": 2**40}])
def test_ranks_that_disagree_are_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        loaded(tmp_path, STATE, {**STATE, **other})


@pytest.mark.parametrize(
    "place",
    [
        "cosmos_core.checkpoint.reader.read_metadata_file",
        "cosmos_core.checkpoint.reader.FileSystemReader.read_data",
        "torch.load",
    ],
)
def test_a_worker_that_is_lost_while_a_checkpoint_is_read_is_no_damage_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    mesh = local_mesh()
    path = save_checkpoint(tmp_path, 1, {"trainer": {"step": 1}}, {"format": 1}, mesh)

    def lose(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr(place, lose)
    with pytest.raises(RankLost, match="a loader worker was lost"), lost_workers_explained():
        load_component(path / "trainer", {"step": 0}, mesh)
    if place == "torch.load":
        with pytest.raises(RankLost, match="a loader worker was lost"), lost_workers_explained():
            load_loader_states(path / "dataloader")
