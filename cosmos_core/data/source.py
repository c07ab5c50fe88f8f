"""What a dataset must offer to the loader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cosmos_core.data.samples import Answer

__all__ = [
    "ArrangedSource",
    "DescribingSource",
    "IdentifiedSource",
    "MapSource",
    "ScoringSource",
    "SelectiveSource",
    "UnreadableSample",
]


class UnreadableSample(Exception):
    """A sample that cannot be used; the loader counts it by `reason`, reports `where`, and goes on."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


@runtime_checkable
class MapSource(Protocol):
    """Random access to samples. Built as ``Source(config)``; picklable, so workers can hold a copy."""

    def __len__(self) -> int:
        """Number of samples in an epoch."""
        ...

    def get(self, index: int, random: np.random.Generator) -> Any:
        """Sample `index`; every random choice comes from `random`. Raises UnreadableSample."""
        ...


@runtime_checkable
class ArrangedSource(MapSource, Protocol):
    """A source that knows in which order it reads well, such as one whose samples lie in blocks."""

    def arrange(self, random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Order of an epoch under `shuffle`: a permutation of the samples, drawn from `random` alone."""
        ...


@runtime_checkable
class IdentifiedSource(MapSource, Protocol):
    """A source whose samples may change from one day to the next; a run resumes on the same ones only."""

    @property
    def identity(self) -> str:
        """The same for the same samples in the same places, for people to read."""
        ...


@runtime_checkable
class DescribingSource(MapSource, Protocol):
    """A source whose records may hold clips that are not decoded yet, so that a cache can take decoding's place."""

    def describe(self, index: int, random: np.random.Generator) -> Any:
        """What `get` returns, with the media left in their files."""
        ...

    def clips(self) -> Iterator[Any]:
        """Every clip that samples may show, once, as `describe` would return it, with its caption never dropped; for
        one that cannot be used the UnreadableSample."""
        ...


@runtime_checkable
class SelectiveSource(MapSource, Protocol):
    """A source that leaves some of its data out by rules of its own, so that people hear of it."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """How much was left out, by reason."""
        ...


@runtime_checkable
class ScoringSource(MapSource, Protocol):
    """A source that can tell how good answers are; validation then asks for them."""

    def score(self, answers: Sequence[Answer], folder: Path) -> dict[str, float]:
        """Figures for the log. Files and pictures go into `folder`, which exists."""
        ...
