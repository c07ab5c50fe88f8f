"""Which rank holds the others up, from the beats of all ranks."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence

import psutil

from cosmos_core.errors import Problem, RankLost
from cosmos_core.train.beat import Beat

__all__ = ["hanging", "suspects"]


def suspects(beats: Mapping[int, Beat], *, world: int, silent: float) -> list[int]:
    """Ranks that the others wait for.

    Those that gave no beat for `silent` seconds, else those that are behind, else those that wait in no collective. All
    ranks when none differs.
    """
    newest = max((beat.time for beat in beats.values()), default=0.0)
    lost = [rank for rank in range(world) if rank not in beats or beats[rank].time < newest - silent]
    if lost:
        return lost
    lowest = min(beat.count for beat in beats.values())
    behind = [rank for rank in range(world) if beats[rank].count == lowest]
    return [rank for rank in behind if not beats[rank].collective] or behind


def hanging(beats: Mapping[int, Beat], *, world: int, silent: float, limit: tuple[str, float]) -> RankLost:
    """The error that names who hangs, where, and who waits. limit: the key and its seconds that ended the run."""
    named = suspects(beats, world=world, silent=silent)
    waiting = [beats[rank] for rank in range(world) if rank not in named]
    first = beats.get(named[0])
    where = f" in step {first.step} ({first.doing})" if first is not None and first.step else ""
    others = ""
    if waiting:
        collectives = sorted({beat.collective for beat in waiting if beat.collective})
        others = f"; {_ranks([beat.rank for beat in waiting])} wait{'s' if len(waiting) == 1 else ''} for it"
        others += f" in {', '.join(collectives)}" if collectives else ""
    hangs = "hangs" if len(named) == 1 else "hang"
    key, seconds = limit
    problems = [Problem(message=_described(rank, beats.get(rank))) for rank in named]
    hint = "raise it where so long without progress is right; logs/ has what each rank did before"
    problems.append(Problem(message=f"is {seconds:g} seconds", key=key, hint=hint))
    title = f"{_ranks(named)} {hangs}{where}{others}; the last complete checkpoint stays the latest"
    return RankLost(title, problems)


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _described(rank: int, beat: Beat | None) -> str:
    """A rank's process, its state, and where its Python code is."""
    if beat is None:
        return f"rank {rank} never gave a sign of life"
    text = f"rank {rank} is process {beat.process} on {beat.host}"
    if beat.host == platform.node():
        text += f", {_state(beat.process)}"
    heading = f"its Python stack {time.time() - beat.time:.0f} s ago, innermost call last"
    return "\n      ".join([f"{text}; {heading}:", *beat.stack])


def _state(process: int) -> str:
    try:
        status = psutil.Process(process).status()
    except psutil.Error:
        return "which is gone"
    return "which is stopped (SIGSTOP)" if status == psutil.STATUS_STOPPED else f"which is {status}"
