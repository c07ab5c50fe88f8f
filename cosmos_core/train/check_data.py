"""`cosmos data check`: reads what training would read, and counts what comes of it."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator
from html import escape
from math import ceil
from typing import Any

import numpy as np
import PIL.Image
import torch
from attrs import evolve, field, frozen

from cosmos_core.config.run import DataloaderConfig, RunConfig
from cosmos_core.console import progress
from cosmos_core.data.dropped import Dropped, Drops
from cosmos_core.data.overlong import OverlongSample, PackLimit
from cosmos_core.data.packing import PreparedSample, pack_stream
from cosmos_core.data.pool import pool_stream
from cosmos_core.data.sampler import EpochSampler
from cosmos_core.data.samples import Item, Record, VideoText
from cosmos_core.data.source import MapSource, UnreadableSample
from cosmos_core.errors import UserError
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.seeds import stream_seed
from cosmos_core.train.build import build_family, open_dataset
from cosmos_core.train.family import ModelFamily

__all__ = ["DataReport", "as_html", "check_data"]

QUICK, PICTURES, PICTURE_SIDE, MAX_PROBLEMS = 200, 24, 160, 10


@frozen
class _Sample:
    """What is kept of a read sample. picture: a JPEG of its first frame, "" for most. failed: why a run would end."""

    position: int
    key: str = ""
    tokens: int = 0
    kind: str = ""
    frames: int = 0
    size: str = ""
    fps: float | None = None
    caption: int | None = None
    picture: str = ""
    latent_bytes: int = 0
    differences: tuple[str, ...] = ()
    skipped: tuple[str, str, str] | None = None
    overlong: bool = False
    failed: tuple[str, ...] = ()


@frozen(kw_only=True)
class DataReport:
    """samples: of an epoch; read: of these. problems: why training would refuse.

    ranges: minimum, median and maximum of lengths, rates, caption lengths and tokens. steps: an epoch takes, on one
    process, None with `--quick`. latent_bytes: a latent cache of all samples takes, from those read; 0 without one.
    """

    samples: int
    read: int
    dropped: tuple[Dropped, ...]
    skipped: tuple[Dropped, ...]
    differences: tuple[Dropped, ...]
    ranges: dict[str, tuple[float, float, float]]
    sizes: dict[str, int]
    packs: int
    packing_efficiency: float | None
    steps: int | None
    latent_bytes: float
    problems: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...] = field(repr=False)


class _Reader(torch.utils.data.Dataset[_Sample]):
    """Position -> facts of a sample, in the workers."""

    def __init__(self, source: MapSource, family: ModelFamily, loader: DataloaderConfig, pictures: set[int]) -> None:
        self.source, self.family, self.seed, self.pictures = source, family, loader.seed, pictures
        sampler = EpochSampler(len(source), loader.seed, loader.shuffle, source.epoch_permutation)
        self.order = sampler.permutation(0)
        cap = _cap(loader, family)
        below = None if cap is None else cap + (loader.packing == "pool")
        self.limit = None if below is None else PackLimit(below, loader.overlong, "dataloader_train", family.shorten)

    def __getitem__(self, position: int) -> _Sample:
        index = int(self.order[position])
        random = np.random.default_rng(stream_seed(self.seed, "sample", position))
        differences = tuple(self.source.differences(index))
        try:
            sample = self.source.get(index, random)
            value = self.family.prepare(sample)
            key = sample.key if isinstance(sample, Record) else self.source.key(index)
            tokens = self.family.num_tokens(value)
            if self.limit is not None and tokens >= self.limit.below:
                value = self.limit.fit(sample, value, tokens, key)
        except UnreadableSample as error:
            skipped = (error.where, error.reason, error.key)
            overlong = isinstance(error, OverlongSample)
            return _Sample(position, skipped=skipped, overlong=overlong, differences=differences)
        except UserError as error:
            reasons = (f"{problem.message} ({problem.key}; {problem.hint})" for problem in error.problems)
            return _Sample(position, failed=tuple(reasons) or (error.title,))
        shown = self.family.model_input(value)
        frames = shown.frames if shown is not None else ()
        about = _Sample(
            position,
            key,
            self.family.num_tokens(value),
            self.family.kind(value),
            len(frames),
            f"{frames[0].shape[2]}x{frames[0].shape[1]}" if frames else "",
            differences=differences,
            latent_bytes=shown.latent_bytes if shown is not None else 0,
            picture=_jpeg(frames[0]) if frames and position in self.pictures else "",
        )
        return evolve(about, fps=sample.fps, caption=len(sample.caption)) if isinstance(sample, VideoText) else about


def check_data(config: RunConfig, plugins: PluginManager, *, quick: bool = False) -> DataReport:
    """Read the first epoch of the training data, or 200 samples of it. Raises UserError when it cannot be opened."""
    loader = evolve(config.dataloader_train, cache=None)
    source = open_dataset(loader, plugins)
    family = build_family(evolve(config, dataloader_train=loader), plugins, torch.device("cpu"))
    count = min(len(source), QUICK) if quick else len(source)
    positions = sorted({round(place) for place in np.linspace(0, len(source) - 1, count)})
    pictures = (
        {positions[round(place)] for place in np.linspace(0, count - 1, min(PICTURES, count))} if count else set()
    )
    reader = _Reader(source, family, loader, pictures)
    rows: list[_Sample] = []
    with progress("reading", count, "samples") as reading:
        for row in torch.utils.data.DataLoader(
            reader, sampler=positions, batch_size=None, num_workers=loader.num_workers
        ):
            rows.append(row)
            reading.advance()
    return _report(config, loader, source, family, rows, quick=quick)


def _report(
    config: RunConfig, loader: DataloaderConfig, source: MapSource, family: ModelFamily, rows: list[_Sample], *,
    quick: bool,
) -> DataReport:  # fmt: skip
    good = [row for row in rows if row.skipped is None and not row.failed]
    bad = sum(row.skipped is not None and not row.overlong for row in rows)
    skipped, differences = Drops(), Drops()
    for row in rows:
        if row.skipped is not None:
            where, reason, key = row.skipped
            skipped.add(reason, where, key)
        if row.differences:
            differences.add("records that differ from their file", f"{row.key}: {'; '.join(row.differences)}")
    cap, problems = (
        _cap(loader, family),
        list(dict.fromkeys(text for row in rows for text in row.failed))[:MAX_PROBLEMS],
    )
    limit = loader.max_bad_sample_fraction
    if rows and bad > limit * len(rows):
        count = f"{bad} of {len(rows)} samples cannot be used"
        problems.append(f"{count}, more than dataloader_train.max_bad_sample_fraction = {limit:g} allows")
    packs = [used for _, _, used in _packed(loader, cap, good)]
    if not good and not problems:
        problems.append("no sample can be used")
    return DataReport(
        samples=len(source), read=len(rows), dropped=tuple(source.dropped), skipped=skipped.all(),
        differences=differences.all(), ranges=_ranges(good), sizes=dict(Counter(row.size for row in good if row.size)),
        packs=len(packs), packing_efficiency=sum(packs) / (len(packs) * cap) if packs and cap else None,
        steps=None if quick else ceil(len(packs) / config.trainer.grad_accum_iter), problems=tuple(problems),
        latent_bytes=sum(row.latent_bytes for row in good) * len(source) / max(len(good), 1),
        pictures=tuple((row.key, row.picture) for row in good if row.picture),
    )  # fmt: skip


def _cap(loader: DataloaderConfig, family: ModelFamily) -> int | None:
    return min((cap for cap in (loader.max_sequence_length, family.max_pack_tokens) if cap is not None), default=None)


def _packed(loader: DataloaderConfig, cap: int | None, rows: list[_Sample]) -> Iterator[tuple[Any, Any, int]]:
    stream = (PreparedSample(Item(row.position, None, row.key), row.tokens, row.key, row.kind) for row in rows)
    if loader.packing == "pool" and cap is not None:
        return pool_stream(stream, loader.pool, max_samples=loader.max_samples_per_batch, max_tokens=cap)
    return pack_stream(stream, max_samples=loader.max_samples_per_batch, max_tokens=cap)


def _ranges(rows: list[_Sample]) -> dict[str, tuple[float, float, float]]:
    columns: dict[str, list[float]] = {
        "frames a sample": [row.frames for row in rows if row.frames],
        "frames a second": [row.fps for row in rows if row.fps is not None],
        "characters a caption": [row.caption for row in rows if row.caption is not None],
        "tokens a sample": [row.tokens for row in rows],
    }
    return {
        name: (float(min(values)), float(np.median(values)), float(max(values)))
        for name, values in columns.items()
        if values
    }


def _jpeg(frame: torch.Tensor) -> str:
    picture, data = PIL.Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()), io.BytesIO()
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    picture.save(data, "jpeg")
    return base64.b64encode(data.getvalue()).decode()


def as_html(lines: list[str], report: DataReport) -> str:
    """One page: the lines of the report and the first frames of some samples."""
    figures = "".join(
        f'<figure><img src="data:image/jpeg;base64,{data}"><figcaption>{escape(key)}</figcaption></figure>'
        for key, data in report.pictures
    )
    style = "body{font-family:sans-serif}figure{display:inline-block;margin:8px}figcaption{font-size:12px}"
    text = escape("\n".join(lines))
    return f'<!doctype html><meta charset="utf-8"><title>Data</title><style>{style}</style><pre>{text}</pre>{figures}'
