"""Ranks start without torch being imported for them, and all end as soon as one fails."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from cosmos_core.config.env import error_file, launched_rank, rendezvous
from cosmos_core.errors import RankLost, UserError
from cosmos_core.launch.error_files import error_recorded, first_failure
from cosmos_core.launch.ranks import started_ranks
from cosmos_core.launch.stop import StopRequests
from cosmos_core.launch.supervisor import launch
from cosmos_core.refs import Ref

HERE = "tests.unit.launch.test_ranks"


def telling(folder: str) -> int:
    """A program that writes what it was told."""
    rank, at = launched_rank(), rendezvous()
    assert rank is not None
    assert at.file is not None
    file = error_file()
    assert file is not None
    assert file.parent.is_dir()
    Path(folder, str(rank.rank)).write_text(f"{rank.local_rank} of {rank.world} and {rank.local_world} in {at.file}")
    return 0


def failing(folder: str, how: str) -> int:
    """Rank 1 fails once rank 0 waits for it."""
    rank = launched_rank()
    assert rank is not None
    if rank.rank == 0:
        Path(folder, "waits").touch()
        time.sleep(600)
    while not Path(folder, "waits").exists():
        time.sleep(0.01)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how.isdecimal():
        return int(how)
    with error_recorded():
        raise UserError("only rank 1 knows")


def test_each_rank_is_told_its_number_a_meeting_place_and_where_to_say_why_it_failed(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with started_ranks(Ref(f"{HERE}:telling"), [str(tmp_path)], 2, errors) as ranks:
        assert ranks.wait() == [0, 0]
    texts = [(tmp_path / str(rank)).read_text() for rank in (0, 1)]
    assert [text.split(" in ")[0] for text in texts] == ["0 of 2 and 2", "1 of 2 and 2"]
    (meeting,) = {text.split(" in ")[1] for text in texts}
    assert not Path(meeting).parent.exists(), "nothing is left in the system's place for temporary files"
    assert first_failure(errors) is None


@pytest.mark.parametrize(
    ("how", "title"),
    [
        ("killed", "rank 1 was killed by SIGKILL: by hand, by the scheduler, or by the system because memory ran out"),
        ("reported", "only rank 1 knows"),
        ("3", None),
    ],
)
def test_one_that_fails_ends_the_others_and_is_the_cause(tmp_path: Path, how: str, title: str | None) -> None:
    errors, begun = tmp_path / "errors", time.monotonic()
    with started_ranks(Ref(f"{HERE}:failing"), [str(tmp_path), how], 2, errors) as ranks:
        codes = ranks.wait()
    assert time.monotonic() - begun < 60
    assert codes[1] == {"killed": -signal.SIGKILL, "reported": 1, "3": 3}[how]
    failure = first_failure(errors)
    assert (None if failure is None or failure.error is None else failure.error.title) == title
    assert failure is None or failure.rank == 1


def test_ranks_that_say_nothing_are_told_with_their_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of the launch stands for the code."""
    monkeypatch.setattr("cosmos_core.launch.supervisor.WORKER", Ref(f"{HERE}:failing"))
    with pytest.raises(RankLost, match=r"did not say why: .*rank 1 with exit code 4; see above"):
        launch(tmp_path, 4, 2, StopRequests())
    assert "rank 1 with exit code 4" in (tmp_path / "outcome.json").read_text()


def test_none_goes_on_when_the_block_is_left(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        started_ranks(Ref(f"{HERE}:failing"), [str(tmp_path), "reported"], 1, tmp_path / "errors") as ranks,
    ):
        raise KeyboardInterrupt
    assert ranks.wait() == [-signal.SIGKILL]
