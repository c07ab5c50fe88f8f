"""Where the data goes on after a checkpoint: exactly there, or, after accepted changes, with what is left of it.

See docs/data.md, Changed data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from attrs import evolve, field, frozen

from cosmos_core.console import progress
from cosmos_core.data.interleave import Interleaving
from cosmos_core.data.mixture import Member, members_of
from cosmos_core.data.sampler import LOADER_FORMAT, Begin, EpochSampler, Order, packed, remaining
from cosmos_core.data.source import MapSource
from cosmos_core.data.used import DIGEST_SIZE, digest_of
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import counted

__all__ = ["Resumed", "data_state", "plain", "resume"]

Used = Mapping[str, Mapping[int, bytes]]
"""As of `UsedSamples`."""


@frozen
class Resumed:
    """order: from here on. first, frontier: as `remaining` gives them. used: by all old ranks.

    changes: what was accepted, by key.
    """

    order: Order
    first: list[int]
    frontier: int
    used: Used
    changes: dict[str, str] = field(factory=dict)


def data_state(source: MapSource, order: Order) -> dict[str, Any]:
    """What a checkpoint keeps of the data and its order; nothing for one dataset that never changes."""
    members = members_of(source)
    is_mixture = order.turns is not None
    if not is_mixture and source.fingerprint is None:
        return {}
    members_state = {
        member.name: {
            "weight": member.weight,
            "size": sampler.size,
            "epoch": sampler.begin.epoch,
            "left": dict(sampler.begin.left),
        }
        for member, sampler in zip(members, order.members, strict=True)
    }
    data = {member.name: member.text for member in members} if is_mixture else source.fingerprint
    state = {"data": data, "order": {"origin": order.origin, "members": members_state}}
    return {**state, "format": LOADER_FORMAT} if is_mixture or order.origin else state


def resume(
    source: MapSource,
    order: Order,
    states: Sequence[dict[str, Any]],
    rank: int,
    world: int,
    *,
    accepting: Collection[str],
    section: str,
) -> Resumed:
    """Where to go on after the packs with these states, one per old data rank.

    order: that of a run that begins. accepting: keys of datasets that may change. Raises UserError when others have.
    """
    members, used = members_of(source), _together(states)
    order_state = states[0].get("order", {"origin": 0, "members": {}})
    entries: dict[str, Any] = order_state["members"]
    changed = _accepted(members, states[0], accepting, section)
    then = _order_then(order, members, entries, order_state["origin"], changed) if entries else order
    weights = [(name, entry["weight"]) for name, entry in entries.items()]
    if not changed and (not entries or _shares(weights) == _shares([(m.name, m.weight) for m in members])):
        first, frontier = remaining(states, rank, world)
        return Resumed(then, list(first), frontier, used)
    pending, frontier = remaining(states, 0, 1)
    left = _Left(then, list(entries), list(pending), frontier, used)
    begins = [left.begin(member, has_changed=member.name in changed) for member in members]
    samplers = tuple(evolve(sampler, begin=begin) for sampler, begin in zip(order.members, begins, strict=True))
    changes = {
        f"{section}.{member.key}": f"{changed[member.name]}; {_described(begin)}"
        for member, begin in zip(members, begins, strict=True)
        if member.name in changed
    }
    return Resumed(Order(samplers, order.turns, frontier), [], frontier + (rank - frontier) % world, used, changes)


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """A loader's state in plain containers, as checkpoints keep it."""
    return {**state, "used": dict(state["used"])} if "used" in state else state


def _shares(weights: Sequence[tuple[str, float]]) -> list[tuple[str, Fraction]]:
    total = sum(Fraction(str(weight)) for _, weight in weights)
    return [(name, Fraction(str(weight)) / total) for name, weight in weights]


def _together(states: Sequence[dict[str, Any]]) -> dict[str, dict[int, bytes]]:
    """What all old ranks used; context-parallel peers saved the same, which counts once."""
    together: dict[str, dict[int, bytes]] = {}
    for state in {state["frontier"] % state["world"]: state for state in states}.values():
        for name, epochs in state.get("used", {}).items():
            known = together.setdefault(name, {})
            for epoch, digests in epochs.items():
                known[epoch] = known.get(epoch, b"") + digests
    return together


def _accepted(
    members: Sequence[Member], state: dict[str, Any], accepting: Collection[str], section: str
) -> dict[str, str]:
    """Members that are new or have changed, with what changed. Raises UserError for those that may not."""
    data = state.get("data")
    old: dict[str, str | None] = data if isinstance(data, dict) else {"": data}
    accepted: dict[str, str] = {}
    problems = []
    for member in members:
        key, before = f"{section}.{member.key}", old.get(member.name)
        now = member.text if member.name else member.source.fingerprint
        if member.name in old and (before == now or None in (before, now)):
            continue
        was = f"the checkpoint was trained on {before}" if member.name in old else "the checkpoint was trained without"
        if member.key in accepting and (member.name not in old or "used" in state):
            accepted[member.name] = f"is {now}, {was}"
            continue
        way_out = "start another run from these weights: job.name=NAME checkpoint.load_path=.../iter_<N>/model"
        accept = f"{key}.changed=accept" if member.key == "dataset" else '`changed = "accept"` in its table'
        hint = f"put it back, go on with the samples that are new or left: {accept}, or {way_out}"
        if member.key in accepting:
            was += ", by a version that did not keep which samples were seen"
            hint = f"put it back, or {way_out}"
        problems.append(Problem(message=f"is {now}, {was}", key=key, hint=hint))
    gone = [name for name in old if name not in [member.name for member in members]]
    for name in gone if old != {"": None} or len(members) > 1 else ():
        message = f"{name or 'its one dataset'}, which the checkpoint was trained on, is gone"
        problems.append(Problem(message=message, key=f"{section}.mixture", hint="put it back; its weight may be small"))
    if problems:
        raise UserError("the data, or its order, has changed since the checkpoint; nothing was started", problems)
    return accepted


def _order_then(
    order: Order, members: Sequence[Member], entries: Mapping[str, Any], origin: int, changed: Mapping[str, str]
) -> Order:
    """The order that the checkpoint was trained in. Of members that changed only the epochs are right."""
    now = {member.name: sampler for member, sampler in zip(members, order.members, strict=True)}
    samplers = tuple(
        evolve(
            EpochSampler(entry["size"], 0, False) if name in changed else now[name],
            begin=Begin(tuple(entry["left"].items()), entry["epoch"]),
        )
        for name, entry in entries.items()
    )
    turns = Interleaving([entry["weight"] for entry in entries.values()]) if order.turns is not None else None
    return Order(samplers, turns, origin)


@frozen
class _Left:
    """What is left of every begun epoch. pending, frontier: positions that were not used, as of one rank."""

    then: Order
    names: list[str]
    pending: list[int]
    frontier: int
    used: Used

    def begin(self, member: Member, *, has_changed: bool) -> Begin:
        """Where a member goes on."""
        if member.name not in self.names:
            return Begin()
        number = self.names.index(member.name)
        sampler, size = self.then.members[number], len(member.source)
        epoch, place = sampler.split(self.then.before(self.frontier)[number])
        rest = {later: 0 for later, _ in sampler.begin.left if later > epoch}
        if place or epoch < sampler.begin.epoch:
            rest[epoch] = place
        places = [self.then.place(position) for position in self.pending]
        skipped = [place for place in places if place.member == number]
        left: dict[int, np.ndarray[Any, np.dtype[np.bool_]]] = {}
        for begun in sorted({*rest, *(place.epoch for place in skipped)}):
            if has_changed:
                left[begun] = _unused(member, self.used.get(member.name, {}).get(begun, b""))
                continue
            left[begun] = np.zeros(size, bool)
            left[begun][sampler.indices(begun)[rest[begun] :] if begun in rest else []] = True
            offset = sum(other.size for other in self.then.members[:number])
            left[begun][[place.index - offset for place in skipped if place.epoch == begun]] = True
        bits = tuple((begun, packed(mask)) for begun, mask in left.items() if mask.any())
        return Begin(bits, max(sampler.begin.epoch, epoch + (place > 0)))


def _unused(member: Member, used: bytes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which samples an epoch has not used. Of samples that share an identity as many are left as were not used."""
    counts = Counter(used[at : at + DIGEST_SIZE] for at in range(0, len(used), DIGEST_SIZE))
    size = len(member.source)
    left = np.ones(size, bool)
    with progress("comparing", size, "samples") as comparing:
        for index in range(size):
            digest = digest_of(member.source.identity(index))
            if counts[digest] > 0:
                counts[digest] -= 1
                left[index] = False
            comparing.advance()
    return left


def _described(begin: Begin) -> str:
    """How much is left of the epochs that were begun."""
    counts = [
        f"{counted(int.from_bytes(left, 'big').bit_count(), 'sample')} of epoch {epoch}" for epoch, left in begin.left
    ]
    return f"goes on with {' and '.join(counts) or 'a new epoch'}"
