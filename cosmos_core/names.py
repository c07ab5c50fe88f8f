"""Names in messages: suggestions for misspelt ones, and short forms of many."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["by_layer", "did_you_mean", "nearest_part"]

_NUMBER = re.compile(r"\b\d+\b")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'?"`` for the known name nearest to `name`, or an empty string when none is near.

    Of near names one with the same letters comes first, since swapped letters are the commonest slip.
    """
    matches = get_close_matches(name, list(known), n=3, cutoff=0.6)
    swapped = [match for match in matches if sorted(match) == sorted(name)]
    return f"did you mean '{(swapped or matches)[0]}'?" if matches else ""


def nearest_part(part: str, names: Iterable[str]) -> str:
    """As `did_you_mean`, for a part of dotted names: as many words of each as `part` has."""
    words = part.strip(".").count(".") + 1
    split = [name.split(".") for name in names]
    return did_you_mean(
        part, dict.fromkeys(".".join(name[at : at + words]) for name in split for at in range(len(name)))
    )


def by_layer(names: Iterable[str]) -> str:
    """Tensor names, merging those that differ only in numbers: ``layers.*.up.weight (2), head.weight``."""
    counts = Counter(_NUMBER.sub("*", name) for name in names)
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())
