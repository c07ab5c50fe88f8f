"""What the samples of a dataset are like, from a few of them whose metadata is read."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from attrs import evolve, frozen

from cosmos_core.config.run import TypicalSample
from cosmos_core.data.source import MapSource, UnreadableSample
from cosmos_core.errors import UserError

__all__ = ["Lengths", "lengths_of", "tokens_of"]

RUNS, RUN = 8, 8
"""Samples are looked at in so many runs of so many, since neighbours often lie in one block of a file."""
CHARACTERS_A_TOKEN = 4.0
"""Of English text and of structured captions; a plan needs no tokenizer."""


def tokens_of(text: str) -> int:
    """About how many tokens a text has."""
    return round(len(text) / CHARACTERS_A_TOKEN)


@frozen
class Lengths:
    """Some samples of a dataset, the smallest first."""

    samples: tuple[TypicalSample, ...]

    @property
    def usual(self) -> TypicalSample:
        """A sample near the mean."""
        return self._near(self._mean_size, self._mean_text)

    def in_the_largest_pack(self, count: float) -> TypicalSample:
        """What samples are like in the largest of many packs of `count`: the more there are, the nearer to the mean."""
        excess = 1 / sqrt(count)
        size = self._mean_size + excess * (_size(self.samples[-1]) - self._mean_size)
        text = self._mean_text + excess * (max(sample.text for sample in self.samples) - self._mean_text)
        return self._near(size, text)

    @property
    def _mean_size(self) -> float:
        return sum(map(_size, self.samples)) / len(self.samples)

    @property
    def _mean_text(self) -> float:
        return sum(sample.text for sample in self.samples) / len(self.samples)

    def _near(self, size: float, text: float) -> TypicalSample:
        """The sample of the nearest size, since not every size suits a model, with a text of so many tokens."""
        nearest = min(self.samples, key=lambda sample: abs(_size(sample) - size))
        return evolve(nearest, text=round(text), varies=len(set(self.samples)) > 1)


def _size(sample: TypicalSample) -> int:
    return sample.frames * sample.height * sample.width


def lengths_of(source: MapSource) -> Lengths | None:
    """Of at most 64 samples, spread over the data. None where the metadata does not tell, or cannot be read."""
    found = []
    for index in _spread(len(source)):
        try:
            sample = source.dimensions(index)
        except UnreadableSample:
            continue
        except UserError:
            return None  # Training tells what is wrong with the file.
        if sample is None:
            return None
        found.append(sample)
    return Lengths(tuple(sorted(found, key=_size))) if found else None


def _spread(count: int) -> Sequence[int]:
    if count <= RUNS * RUN:
        return range(count)
    starts = [run * (count - RUN) // (RUNS - 1) for run in range(RUNS)]
    return sorted({start + offset for start in starts for offset in range(RUN)})
