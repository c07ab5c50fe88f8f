"""Error files: how a rank tells the launcher, or torchrun, why it failed.

Both name one file for each rank in TORCHELASTIC_ERROR_FILE. ``record`` of torch writes an exception with its
traceback there. A reported error is written here, with what is needed to raise it again in the launcher.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from cosmos_core.config.env import error_file
from cosmos_core.config.problems import render
from cosmos_core.errors import Problem, RankLost, ReportedError, RunFailed, UserError
from cosmos_core.plan.record import replace_file

__all__ = ["RankFailure", "any_rank_reported", "error_file_of", "error_recorded", "first_failure", "record_killed_rank"]

_KINDS: dict[str, type[ReportedError]] = {"UserError": UserError, "RankLost": RankLost, "RunFailed": RunFailed}


@frozen
class RankFailure:
    """What one rank wrote before it failed.

    error: the reported error; None for any other exception, which has a traceback. message: type and text of the
    exception.
    """

    rank: int
    time: int
    message: str
    error: ReportedError | None


@contextmanager
def error_recorded() -> Iterator[None]:
    """Write a reported error that leaves the block to this rank's error file, if there is one.

    Used inside the process group's lifetime, so that the file is there before peers notice that this rank left.
    """
    try:
        yield
    except ReportedError as error:
        path = error_file()
        if path is not None and path.parent.is_dir() and not path.exists():
            replace_file(path, json.dumps(_content(error)).encode())
        raise


def error_file_of(folder: Path, rank: int) -> Path:
    """Of a rank of our launcher, where torchrun would have it below its log folder."""
    return folder / "launch/attempt_0" / str(rank) / "error.json"


def record_killed_rank(folder: Path, rank: int, signal_name: str) -> None:
    """Write for a rank that a signal ended what it could not write itself."""
    error = RankLost(
        f"rank {rank} was killed by {signal_name}"
        + (": by hand, by the scheduler, or by the system because memory ran out" if signal_name == "SIGKILL" else "")
    )
    replace_file(error_file_of(folder, rank), json.dumps(_content(error)).encode())


def _content(error: ReportedError) -> dict[str, Any]:
    """As torch writes it (torchrun reads `message`), with the error itself beside."""
    kind = next(name for name, known in _KINDS.items() if isinstance(error, known))
    extra = {"py_callstack": render(error), "timestamp": str(int(time.time()))}
    problems = [asdict(problem) for problem in error.problems]
    return {
        "message": {"message": f"{kind}: {error}", "extraInfo": extra},
        "reported": {"kind": kind, "title": error.title, "problems": problems},
    }


def first_failure(folder: Path) -> RankFailure | None:
    """Why the ranks failed, from the error files below a folder; None when no rank wrote one.

    A reported error comes before any other: when a rank leaves with one, the collectives of its peers fail, and a peer
    may write that first. Among equals the oldest counts.
    """
    read = [_read(path) for path in sorted(folder.glob("*/attempt_*/*/error.json"))]
    failures = [failure for failure in read if failure is not None]
    return min(failures, key=lambda failure: (failure.error is None, failure.time, failure.rank), default=None)


def any_rank_reported() -> bool:
    """Whether some rank of this launch has reported an error, so that any failure here is only its consequence."""
    path = error_file()
    failure = None if path is None else first_failure(path.parents[3])
    return failure is not None and failure.error is not None


def _read(path: Path) -> RankFailure | None:
    """None while torch is writing it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    message, reported = content["message"], content.get("reported")
    error = None
    if reported is not None:
        problems = [Problem(**problem) for problem in reported["problems"]]
        error = _KINDS[reported["kind"]](reported["title"], problems)
    return RankFailure(int(path.parent.name), int(message["extraInfo"]["timestamp"]), message["message"], error)
