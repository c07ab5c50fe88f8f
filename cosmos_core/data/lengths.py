"""What the samples of a dataset are like, from a few of them whose metadata is read."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from operator import mul

from attrs import evolve, frozen

from cosmos_core.config.run import TypicalSample
from cosmos_core.data.mixture import members_of
from cosmos_core.data.source import MapSource, UnreadableSample
from cosmos_core.errors import UserError

__all__ = ["Lengths", "lengths_of", "tokens_of"]

NUM_RUNS, RUN_LENGTH = 8, 8
"""Samples are looked at in so many runs of so many, since neighbours often lie in one block of a file."""
MIN_RUNS = 2
"""Of a mixture's member, however small its weight."""
CHARACTERS_A_TOKEN = 4.0
"""Of English text and of structured captions; a plan needs no tokenizer."""


def tokens_of(text: str) -> int:
    """About how many tokens a text has."""
    return round(len(text) / CHARACTERS_A_TOKEN)


@frozen
class Lengths:
    """Some samples of a dataset, the smallest first. weights: how often training draws a sample like each."""

    samples: tuple[TypicalSample, ...]
    weights: tuple[float, ...]

    @property
    def usual(self) -> TypicalSample:
        """A sample near the mean."""
        return self._near(self._mean_size, self._mean_text)

    def in_the_largest_packs(self, count: float) -> tuple[TypicalSample, TypicalSample]:
        """What samples are like in the largest of many packs of `count`: the more there are, the nearer to the mean.

        With long texts, and with short ones, which leave room for more samples where tokens are limited.
        """
        excess = 1 / sqrt(count)
        size = self._mean_size + excess * (_size(self.samples[-1]) - self._mean_size)
        texts = [sample.text for sample in self.samples]
        longest, shortest = (self._mean_text + excess * (most(texts) - self._mean_text) for most in (max, min))
        return self._near(size, longest), self._near(size, shortest)

    @property
    def _mean_size(self) -> float:
        return self._mean([_size(sample) for sample in self.samples])

    @property
    def _mean_text(self) -> float:
        return self._mean([sample.text for sample in self.samples])

    def _mean(self, values: Sequence[int]) -> float:
        return sum(map(mul, self.weights, values)) / sum(self.weights)

    def _near(self, size: float, text: float) -> TypicalSample:
        """The sample of the nearest size, since not every size suits a model, with a text of so many tokens."""
        nearest = min(self.samples, key=lambda sample: abs(_size(sample) - size))
        return evolve(nearest, text=round(text))


def _size(sample: TypicalSample) -> int:
    return sample.pictures * sample.frames * sample.height * sample.width


def lengths_of(source: MapSource) -> Lengths | None:
    """Of about 64 samples, spread over the data, and over a mixture by its members' weights.

    None where the metadata does not tell, or cannot be read.
    """
    members = members_of(source)
    total = sum(member.weight for member in members)
    weighted: list[tuple[TypicalSample, float]] = []
    for member in members:
        samples = _some_of(member.source, max(MIN_RUNS, round(NUM_RUNS * member.weight / total)))
        if samples is None:
            return None
        weighted += [(sample, member.weight / len(samples)) for sample in samples]
    weighted.sort(key=lambda pair: _size(pair[0]))
    return Lengths(*zip(*weighted, strict=True)) if weighted else None


def _some_of(source: MapSource, runs: int) -> list[TypicalSample] | None:
    """Those that can be read of so many runs of samples."""
    samples = []
    for index in _spread(len(source), runs):
        try:
            sample = source.dimensions(index)
        except UnreadableSample:
            continue
        except UserError:
            return None  # Training tells what is wrong with the file.
        if sample is None:
            return None
        samples.append(sample)
    return samples


def _spread(count: int, runs: int) -> Sequence[int]:
    if count <= runs * RUN_LENGTH:
        return range(count)
    starts = [run * (count - RUN_LENGTH) // (runs - 1) for run in range(runs)]
    return sorted({start + offset for start in starts for offset in range(RUN_LENGTH)})
