"""Whether what a checkpoint says of the data could have been written by a loader; damage is found before it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cosmos_core.data.used import DIGEST_SIZE

__all__ = ["check_loader_states"]

LAST = 2**53
"""Largest position; beyond it floating point numbers skip some."""
MAX_DISTANCE = 10**7
"""Most positions between two ranks, which are dealt out one by one when the number of ranks changes."""
MAX_RANKS = 2**20


def check_loader_states(states: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError, whose text follows the file's name, unless types and ranges are those of a loader's states."""
    for state in states:
        _demand(_is_whole(state["world"], 1, MAX_RANKS), "its number of ranks")
        _demand(_is_whole(state["frontier"], 0, LAST), "its position")
        aside, frontier = state["aside"], state["frontier"]
        _demand(isinstance(aside, list) and all(_is_whole(item, 0, frontier - 1) for item in aside), "positions aside")
        _demand(len(set(aside)) == len(aside), "positions aside, each once")
        _demand(isinstance(state.get("data", ""), str) or _is_texts(state["data"]), "what the data are")
        _check_used(state.get("used", {}))
        if "order" in state:
            _check_order(state["order"], frontier)
    _demand(len({state["world"] for state in states}) < 2, "one number of ranks for all of them")
    frontiers = [state["frontier"] for state in states]
    _demand(
        max(frontiers, default=0) - min(frontiers, default=0) <= MAX_DISTANCE, "positions near those of other ranks"
    )


def _check_used(used: Any) -> None:
    _demand(isinstance(used, dict) and all(isinstance(name, str) for name in used), "the used samples")
    for epochs in used.values():
        _demand(isinstance(epochs, dict), "the used samples")
        for epoch, digests in epochs.items():
            whole = isinstance(digests, bytes) and len(digests) % DIGEST_SIZE == 0
            _demand(_is_whole(epoch, 0, LAST) and whole, "the used samples of an epoch")


def _check_order(order: Any, frontier: int) -> None:
    _demand(isinstance(order, dict) and _is_whole(order.get("origin"), 0, frontier), "the order's beginning")
    members = order.get("members")
    _demand(isinstance(members, dict) and all(isinstance(name, str) for name in members), "the order's datasets")
    for member in members.values():
        _demand(isinstance(member, dict), "a dataset of the order")
        weight, size, left = member.get("weight"), member.get("size"), member.get("left")
        _demand(isinstance(weight, int | float) and 0 < weight < math.inf, "a dataset's weight")
        _demand(_is_whole(size, 1, LAST) and _is_whole(member.get("epoch"), 0, LAST), "a dataset's size and epoch")
        bits = math.ceil(size / 8)
        whole = isinstance(left, dict) and all(
            _is_whole(epoch, 0, LAST) and isinstance(mask, bytes) and len(mask) == bits for epoch, mask in left.items()
        )
        _demand(whole, "what is left of a dataset")


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, str) for item in value.items() for part in item)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _demand(holds: bool, entry: str) -> None:
    if not holds:
        raise ValueError(f"lacks {entry} in the form in which a loader writes it")
