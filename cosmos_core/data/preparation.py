"""A sample as training sees it: read with random numbers of its own, prepared by the family, made to fit a pack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmos_core.data.overlong import PackLimit, Shorten
from cosmos_core.data.samples import Record
from cosmos_core.data.source import MapSource
from cosmos_core.seeds import stream_seed

__all__ = ["Preparation", "ReadSample", "read_sample"]


def _one_kind(value: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a model family does to records in loader workers: methods of `ModelFamily`."""

    prepare: Callable[[Any], Any]
    num_tokens: Callable[[Any], int]
    kind: Callable[[Any], str] = _one_kind
    shorten: Shorten | None = None


@dataclass(frozen=True, slots=True)
class ReadSample:
    """record: as the dataset gives it. value: prepared. overlong: it was made shorter."""

    key: str
    record: Any
    value: Any
    num_tokens: int
    overlong: bool


def read_sample(
    source: MapSource,
    index: int,
    position: int,
    preparation: Preparation,
    limit: PackLimit | None,
    *,
    seed: int,
    lazy: bool,
) -> ReadSample:
    """The sample at `index`, with the random choices of its position in the order of training.

    lazy: clips of the record are not decoded yet. Raises UnreadableSample, and UserError where the run must end.
    """
    random = np.random.default_rng(stream_seed(seed, "sample", position))
    record = source.get_lazy(index, random) if lazy else source.get(index, random)
    value = preparation.prepare(record)
    key = record.key if isinstance(record, Record) else source.key(index)
    num_tokens = preparation.num_tokens(value)
    overlong = limit is not None and num_tokens >= limit.below
    if limit is not None and overlong:
        value = limit.fit(record, value, num_tokens, key)
        num_tokens = preparation.num_tokens(value)
    return ReadSample(key, record, value, num_tokens, overlong)
