"""The interface of a dataset."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cosmos_core.config.run import TypicalSample
from cosmos_core.data.dropped import Dropped
from cosmos_core.names import counted

__all__ = ["MapSource", "UnreadableSample", "described"]

Permutation = np.ndarray[Any, np.dtype[np.int64]]


class UnreadableSample(Exception):
    """A sample that cannot be used; the loader counts it by `reason`, logs `where` and continues.

    key: the option of the dataset that would change it, "" if there is none.
    """

    def __init__(self, where: str, reason: str, key: str = "") -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason
        self.key = key


class MapSource(ABC):
    """Random access to samples. Built as ``Source(config)``; picklable, so workers can hold a copy.

    A dataset must have `__len__` and `get`; everything else has a default.
    """

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

    def identity(self, index: int) -> str:
        """What tells sample `index` from all others, however many come or go; by default its key."""
        return self.key(index)

    def get_lazy(self, index: int, random: np.random.Generator) -> Any:
        """What `get` returns, with clips not yet decoded where the dataset supports it.

        A latent cache then replaces decoding.
        """
        return self.get(index, random)

    def dimensions(self, index: int) -> TypicalSample | None:
        """What sample `index` is like, from metadata alone and without decoding, for plans; None where that needs more.

        Raises UnreadableSample.
        """
        return None

    def lazy_samples(self) -> Iterator[Any]:
        """Every clip once, as `get_lazy` returns it, with its caption.

        For a clip that cannot be used, its UnreadableSample.
        """
        for index in range(len(self)):
            try:
                yield self.get_lazy(index, np.random.default_rng(0))
            except UnreadableSample as error:
                yield error

    def epoch_permutation(self, random: np.random.Generator) -> Permutation:
        """Order of an epoch under `shuffle`, int64 [len], drawn from `random` alone.

        Overridden for data that is read faster in blocks.
        """
        return random.permutation(len(self))

    @property
    def fingerprint(self) -> str | None:
        """Readable text that changes when the samples or their order change; a run resumes only on the same data.

        None for data that never changes.
        """
        return None

    @property
    def filtered(self) -> Mapping[str, int]:
        """How many samples the dataset left out by its own rules, by reason."""
        return {}

    @property
    def dropped(self) -> Sequence[Dropped]:
        """The same with the option behind each reason and the first examples."""
        return [Dropped(reason, count) for reason, count in self.filtered.items()]

    def differences(self, index: int) -> Sequence[str]:
        """How what the data says of sample `index` differs from its file."""
        return ()

    @property
    def categories(self) -> Mapping[str, str]:
        """Groups of samples, by key; metrics of answers are also given by group."""
        return {}


ONE = re.compile(r"^(1 (?:sample|row))s\b")
"""As fingerprints begin, whose words cannot change: checkpoints hold them."""


def described(source: MapSource) -> str:
    """What a dataset holds: its fingerprint; its size if it has none."""
    text = source.fingerprint or counted(len(source), "sample")
    return ONE.sub(r"\1", text)
