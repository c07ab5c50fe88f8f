"""Samples in a fixed order, decoded by workers and packed, with a state from which a run resumes exactly."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cosmos_core.config.run import DataloaderConfig
from cosmos_core.data.mixture import members_of, order_of
from cosmos_core.data.overlong import OverlongSample, PackLimit
from cosmos_core.data.pool import pack
from cosmos_core.data.preparation import Preparation, read_sample
from cosmos_core.data.resume import data_state, resume
from cosmos_core.data.sampler import Order, Place, initial_state, positions
from cosmos_core.data.samples import Item
from cosmos_core.data.source import MapSource, UnreadableSample
from cosmos_core.data.used import UsedSamples, digest_of
from cosmos_core.data.worker_count import workers_for
from cosmos_core.data.workers import read_in_workers
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import counted

__all__ = ["MicroBatch", "PackedLoader"]

logger = logging.getLogger(__name__)

MIN_VISITS = 20
"""Samples after which the fraction of skipped ones is checked."""
MARGIN = 4.0
"""Standard deviations by which it must exceed the limit."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One pack.

    state: what to save if this is the last one trained on. packing_efficiency: its tokens as a fraction of the cap;
    None without a cap. parts: what the model gets one after the other, once the family collated the items.
    """

    items: list[Item]
    state: dict[str, Any]
    packing_efficiency: float | None = None
    parts: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What a worker returns for a position: a sample, why it is skipped, or why the run must end.

    digest: of the sample's identity, b"" where the data never changes. overlong: it is skipped, or was shortened, since
    it is longer than a pack.
    """

    position: int
    place: Place
    digest: bytes = b""
    item: Item | None = None
    skipped: tuple[str, str] | None = None
    overlong: bool = False
    failed: tuple[str, tuple[Problem, ...]] | None = None


class _Reader(torch.utils.data.Dataset[_Fetched]):
    """Position -> prepared sample, in the workers; every random choice is keyed by the position."""

    def __init__(
        self,
        source: MapSource,
        order: Order,
        preparation: Preparation,
        *,
        seed: int,
        lazy: bool,
        limit: PackLimit | None,
        identifies: bool,
    ) -> None:
        self.source, self.order, self.preparation, self.limit = source, order, preparation, limit
        self.seed, self.lazy, self.identifies = seed, lazy, identifies
        self.names = [member.name for member in members_of(source)]

    def __getitem__(self, position: int) -> _Fetched:
        place, digest = self.order.place(position), b""
        source, limit = self.source, self.limit
        try:
            if self.identifies:
                digest = digest_of(source.identity(place.index))
            sample = read_sample(source, place.index, position, self.preparation, limit, seed=self.seed, lazy=self.lazy)
        except UnreadableSample as error:
            overlong = isinstance(error, OverlongSample)
            return _Fetched(position, place, digest, skipped=(error.where, error.reason), overlong=overlong)
        except UserError as error:
            return _Fetched(position, place, failed=(error.title, error.problems))
        name, kind = self.names[place.member], self.preparation.kind(sample.value)
        item = Item(position, sample.value, sample.key, name, sample.num_tokens, kind)
        return _Fetched(position, place, digest, item, overlong=sample.overlong)


class PackedLoader:
    """Packs without end, or for `epochs`. Ranks take positions in turn; context-parallel peers pass the same rank."""

    def __init__(
        self,
        source: MapSource,
        *,
        config: DataloaderConfig,
        preparation: Preparation,
        rank: int,
        world: int,
        epochs: int | None = None,
        cap: int | None = None,
        section: str = "dataloader_train",
    ) -> None:
        """cap: most tokens of a pack, besides the configured limit. section: of the configuration, for messages."""
        if len(source) == 0:
            raise UserError(f"{_named(config)} is empty; nothing was started")
        self.source = source
        self._names = tuple(member.name for member in members_of(source))
        self.changes: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        self._config, self._rank, self._world, self._section = config, rank, world, section
        limit = PackLimit.of(config, section, cap=cap, shorten=preparation.shorten)
        self._max_tokens = limit.max_tokens if limit is not None else None
        self._order = order_of(source, config.seed, shuffle=config.shuffle)
        self._kept = data_state(source, self._order)
        self._used = UsedSamples(self._names) if self._kept and epochs is None else None
        self._reader = _Reader(
            source,
            self._order,
            preparation,
            seed=config.seed,
            lazy=config.cache is not None,
            limit=limit,
            identifies=self._used is not None,
        )
        self._end = None if epochs is None else epochs * len(source)
        self._start: tuple[list[int], int] = ([], rank)
        self._seen = _Seen(len(source))
        self._packs = _Packs()
        self._reported: set[str] = set()

    def load_state(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue after the packs with these states, one per old data rank.

        Raises UserError when the data has changed, unless its configuration accepts that.
        """
        accepting = [key for key, dataset in self._config.datasets.items() if dataset.changed == "accept"]
        resumed = resume(
            self.source,
            self._order,
            states,
            self._rank,
            self._world,
            accepting=accepting,
            section=self._section,
        )
        self._order = self._reader.order = resumed.order
        self._start = (resumed.first, resumed.frontier)
        self._kept, self.changes = data_state(self.source, resumed.order), resumed.changes
        if self._used is not None:
            self._used = UsedSamples(self._names, resumed.used if self._rank == 0 else {})

    def state(self) -> dict[str, Any]:
        """State before the first pack of this process."""
        first, frontier = self._start
        start = initial_state(self._rank, self._world)
        return self._state({**start, "frontier": frontier, "aside": list(first)})

    def _state(self, cursor: dict[str, Any]) -> dict[str, Any]:
        return {**cursor, **self._kept, **({"used": self._used.state()} if self._used is not None else {})}

    def __iter__(self) -> Iterator[MicroBatch]:
        """Packs from the start, or from the loaded state."""
        taken = _Cursor(*self._start, self._world)
        for items, aside, used in pack(self._items(taken), self._config, self._max_tokens):
            self._packs.add(len(items), used)
            if self._used is not None:
                self._used.use(item.position for item in items)
            state = {"world": self._world, "frontier": taken.frontier, "aside": [*aside, *taken.unread]}
            packing_efficiency = used / self._max_tokens if self._max_tokens is not None else None
            yield MicroBatch(items, self._state(state), packing_efficiency)

    def announce(self) -> None:
        """Log what the dataset left out by its own rules, and how it differs from what trained the checkpoint."""
        for key, text in self.changes.items():
            logger.warning("%s %s", key, text)
        if dropped := self.source.dropped:
            logger.warning("left out of %s: %s", _named(self._config), ", ".join(group.text for group in dropped))

    def report(self, when: str = "data") -> None:
        """Log one line: how full this process's packs were, and what was skipped and left out so far, by reason."""
        parts = []
        if self._packs.packs and self._max_tokens is not None:
            parts.append(self._packs.described(self._max_tokens))
        if self.skipped:
            counts = ", ".join(f"{count} x {reason}" for reason, count in self.skipped.most_common())
            parts.append(f"skipped {self.skipped.total()} of {self._seen.samples} samples: {counts}")
        if self._seen.shortened:
            parts.append(f"shortened {self._seen.shortened} of {self._seen.samples} samples to fit into a pack")
        if self.source.filtered:
            counts = ", ".join(f"{count} x {reason}" for reason, count in self.source.filtered.items())
            parts.append(f"left out of {_named(self._config)}: {counts}")
        if parts:
            share = f" (data rank {self._rank} of {self._world})" if self._world > 1 else ""
            logger.info("%s%s: %s", when, share, "; ".join(parts))

    def _items(self, taken: _Cursor) -> Iterator[Item]:
        epoch = 0
        with closing(self._fetched()) as every:  # Also when a sample ends the run.
            for fetched in every:
                taken.advance(fetched.position)
                is_first = self._seen.add(fetched.place.index)
                if self._used is not None and fetched.failed is None:
                    self._used.read(fetched.position, fetched.place, fetched.digest)
                if self._order.epoch(fetched.position) > epoch:
                    epoch = self._order.epoch(fetched.position)
                    if epoch.bit_count() == 1:  # 1, 2, 4, ...: it counts from the start, and small datasets end often.
                        self.report(f"after epoch {epoch}")
                if fetched.failed is not None:
                    raise UserError(*fetched.failed)
                if fetched.skipped is not None:
                    self._skip(*fetched.skipped, fetched)
                if fetched.item is not None:
                    self._seen.shortened += fetched.overlong and is_first
                    self._seen.in_a_row = 0
                    yield fetched.item
        self._check_skipped(at_end=True)

    def _fetched(self) -> Generator[_Fetched]:
        upcoming = positions(*self._start, self._world, self._end)
        samples = None if self._end is None else math.ceil(self._end / self._world)
        workers = workers_for(self._config.num_workers, samples)
        if workers == 0:
            yield from map(self._reader.__getitem__, upcoming)
            return
        yield from read_in_workers(
            self._reader,
            upcoming,
            num_workers=workers,
            prefetch_factor=self._config.prefetch_factor,
            timeout=self._config.worker_timeout,
            name=lambda position: self.source.key(self._order.place(position).index),
        )

    def _skip(self, where: str, reason: str, fetched: _Fetched) -> None:
        self.skipped[reason] += self._seen.skip(fetched.place.index, bad=not fetched.overlong)
        if self._used is not None:
            self._used.use([fetched.position])
        if where not in self._reported:
            self._reported.add(where)
            logger.warning("skipped %s: %s", where, reason)
        self._check_skipped(at_end=False)
        if self._seen.in_a_row > max(len(self.source), MIN_VISITS):
            raise UserError("all samples are skipped", self._reasons())

    def _check_skipped(self, *, at_end: bool) -> None:
        """Stop only if the rate exceeds the limit by four standard deviations, or at the end of the data."""
        count, limit, visits = self._seen.bad_visits, self._config.max_bad_sample_fraction, self._seen.visits
        margin = 0.0 if at_end else MARGIN * math.sqrt(limit * (1 - limit) * visits)
        if not count or (visits < MIN_VISITS and not at_end) or count <= limit * visits + margin:
            return
        raise UserError(
            f"{self._seen.bad} of {self._seen.samples} samples cannot be used, more than "
            f"{self._section}.max_bad_sample_fraction = {limit:g} allows; repair the data, or raise the limit",
            self._reasons(),
        )

    def _reasons(self) -> list[Problem]:
        problems = [Problem(message=f"{number} x {reason}") for reason, number in self.skipped.most_common()]
        return problems + [Problem(message=f"first: {where}") for where in sorted(self._reported)[:5]]


def _named(config: DataloaderConfig) -> str:
    names = [f"'{dataset.type}'" for dataset in config.datasets.values()]
    return f"dataset {names[0]}" if len(names) == 1 else f"the mixture of {', '.join(names)}"


class _Seen:
    """Counts samples of the data once, however often they come; and visits, which repeat them.

    samples, bad, shortened: of the data. visits, bad_visits: with repetitions. in_a_row: skipped since the last sample.
    """

    def __init__(self, size: int) -> None:
        self.samples = self.bad = self.shortened = self.visits = self.bad_visits = self.in_a_row = 0
        self._seen, self._skipped = np.zeros(size, bool), np.zeros(size, bool)

    def add(self, index: int) -> bool:
        """Whether the sample is here for the first time."""
        is_first = not self._seen[index]
        self._seen[index] = True
        self.samples += is_first
        self.visits += 1
        return is_first

    def skip(self, index: int, *, bad: bool) -> bool:
        """Whether the sample is skipped for the first time. bad: it cannot be used at all."""
        is_first = not self._skipped[index]
        self._skipped[index] = True
        self.bad += is_first and bad
        self.bad_visits += bad
        self.in_a_row += 1
        return is_first


@dataclass(slots=True)
class _Packs:
    """Totals of what was packed so far."""

    packs: int = 0
    samples: int = 0
    tokens: int = 0

    def add(self, samples: int, tokens: int) -> None:
        self.packs += 1
        self.samples += samples
        self.tokens += tokens

    def described(self, cap: int) -> str:
        packing_efficiency = self.tokens / (self.packs * cap)
        return (
            f"packed {counted(self.samples, 'sample')} into {counted(self.packs, 'sequence')} of at most {cap} tokens: "
            f"{packing_efficiency:.1%} full, {1 - packing_efficiency:.1%} empty"
        )


class _Cursor:
    """Tracks which positions the packer has taken from the stream."""

    def __init__(self, first: list[int], frontier: int, world: int) -> None:
        self.unread = list(first)
        self.frontier = frontier
        self._world = world

    def advance(self, position: int) -> None:
        if self.unread:
            assert self.unread.pop(0) == position
        else:
            assert position == self.frontier
            self.frontier += self._world
