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

    Those that never gave a beat. Else, of those that are behind, the ones without a beat for `silent` seconds, else
    those that wait in no collective. Else any that is silent, else all that are behind. A rank that is ahead may be
    silent for a while because its machine is busy; nobody waits for it.
    """
    missing = [rank for rank in range(world) if rank not in beats]
    if missing:
        return missing
    running = [beats[rank] for rank in range(world)]  # There may be older beats, of a larger run that was killed.
    newest = max(beat.time for beat in running)
    lost = [beat.rank for beat in running if beat.time < newest - silent]
    lowest = min(beat.count for beat in running)
    behind = [beat.rank for beat in running if beat.count == lowest]
    return (
        [rank for rank in behind if rank in lost]
        or [rank for rank in behind if not beats[rank].collective]
        or lost
        or behind
    )


def hanging(beats: Mapping[int, Beat], *, world: int, silent: float, limit: tuple[str, float]) -> RankLost:
    """The error that names who hangs, where, and who waits. limit: the key and its seconds that ended the run."""
    named = suspects(beats, world=world, silent=silent)
    waiting = [beats[rank] for rank in range(world) if rank not in named]
    first = beats.get(named[0])
    where = f" in step {first.step} ({first.doing})" if first is not None and first.step else ""
    hangs = "hangs" if len(named) == 1 else "hang"
    key, seconds = limit
    problems = [Problem(message=_described(rank, beats.get(rank))) for rank in named]
    hint = "raise it where so long without progress is right; logs/ has what each rank did before"
    problems.append(Problem(message=f"is {seconds:g} seconds", key=key, hint=hint))
    title = f"{_ranks(named)} {hangs}{where}{_others(waiting)}; the last complete checkpoint stays the latest"
    return RankLost(title, problems)


def _others(beats: Sequence[Beat]) -> str:
    """What ranks that do not hang do. One may still be busy, such as with the end of a save, and waits later."""
    places: dict[str, list[int]] = {}
    for beat in beats:
        places.setdefault("" if beat.collective else beat.doing, []).append(beat.rank)
    text = ""
    if waiting := places.pop("", []):
        collectives = ", ".join(sorted({beat.collective for beat in beats if beat.collective}))
        text = f"; {_ranks(waiting)} wait{'s' if len(waiting) == 1 else ''} for it in {collectives}"
    for doing, ranks in sorted(places.items()):
        text += f"; {_ranks(ranks)} {'is' if len(ranks) == 1 else 'are'} at: {doing}"
    return text


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
