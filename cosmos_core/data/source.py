"""What a dataset offers to the loader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cosmos_core.data.samples import Answer

__all__ = ["MapSource", "UnreadableSample"]

Permutation = np.ndarray[Any, np.dtype[np.int64]]


class UnreadableSample(Exception):
    """A sample that cannot be used; the loader counts it by `reason`, reports `where`, and goes on."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class MapSource(ABC):
    """Random access to samples. Built as ``Source(config)``; picklable, so workers can hold a copy.

    `__len__` and `get` are all that a dataset must have. The rest has defaults.
    """

    scores: ClassVar[bool] = False
    """Whether `score` can tell how good answers are; validation then asks the model for them."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples in an epoch."""

    @abstractmethod
    def get(self, index: int, random: np.random.Generator) -> Any:
        """Sample `index`, a record of the type that the dataset's descriptor names.

        Every random choice comes from `random`. Raises UnreadableSample.
        """

    def key(self, index: int) -> str:
        """Name of sample `index` in messages."""
        return str(index)

    def get_lazy(self, index: int, random: np.random.Generator) -> Any:
        """What `get` returns, with clips left in their files where the dataset can, so that a cache can take
        decoding's place."""
        return self.get(index, random)

    def lazy_samples(self) -> Iterator[Any]:
        """Every clip that samples may show, once, as `get_lazy` returns it, with its caption never dropped; for one
        that cannot be used its UnreadableSample."""
        for index in range(len(self)):
            try:
                yield self.get_lazy(index, np.random.default_rng(0))
            except UnreadableSample as error:
                yield error

    def epoch_permutation(self, random: np.random.Generator) -> Permutation:
        """Order of an epoch under `shuffle`, int64 [len], drawn from `random` alone; for data that reads well in one
        order, such as samples in blocks."""
        return random.permutation(len(self))

    @property
    def fingerprint(self) -> str | None:
        """The same for the same samples in the same places, for people to read; a run resumes on the same ones only.
        None for data that never changes."""
        return None

    @property
    def filtered(self) -> Mapping[str, int]:
        """How many samples the dataset left out by rules of its own, by reason."""
        return {}

    def score(self, answers: Sequence[Answer], folder: Path) -> dict[str, float]:
        """Metrics of the model's answers. Files and pictures go into `folder`, which exists."""
        return {}
