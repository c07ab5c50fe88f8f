"""Fills a latent cache, in one process or several."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, frozen
from rich.progress import Progress

from cosmos_core.config import RunConfig, disabled_plugins
from cosmos_core.data import MapSource, StoredClip, UnreadableSample, VideoText
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin import DatasetSpec, PluginManager
from cosmos_core.recipes import resolve
from cosmos_core.train import BuildContext
from cosmos_vfm.cache import Cached, LatentCache
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.family import VfmFamily

__all__ = ["Job", "encode", "encode_in_processes"]

logger = logging.getLogger(__name__)

READERS = 4


@frozen
class Job:
    """batch: clips of one size that are encoded together."""

    recipe: str
    overrides: tuple[str, ...]
    output: Path
    batch: int


@frozen(eq=False)
class _Work:
    """A clip to encode; video is None when the cache has it already, or when it cannot be read."""

    identity: str
    sample: VideoText
    video: torch.Tensor | None


def encode_in_processes(job: Job, count: int) -> Counter[str]:
    """`count` processes, each on its own device where there are any. Raises UserError when one of them is refused."""
    from torch.multiprocessing import get_context, spawn

    results = get_context("spawn").SimpleQueue()
    spawn(_one_of, args=(job, count, results), nprocs=count)
    counts: Counter[str] = Counter()
    for _ in range(count):
        found = results.get()
        if isinstance(found, tuple):
            raise UserError(*found)
        counts.update(found)
    return counts


def _one_of(rank: int, job: Job, count: int, results: Any) -> None:
    """Sends its counts, or title and problems of what it was refused for."""
    try:
        results.put(encode(job, rank, count, PluginManager.discover(disabled_plugins())))
    except UserError as error:
        results.put((error.title, error.problems))


def encode(job: Job, rank: int, world: int, plugins: PluginManager) -> Counter[str]:
    """Encode every `world`-th clip from `rank` on that the cache lacks; returns counts.

    Raises UserError for recipes whose data cannot be listed, and for a folder made with another codec.
    """
    config = resolve(job.recipe, job.overrides, plugins=plugins).config
    if not isinstance(config.model, VfmConfig):
        problem = Problem(message=f"is '{config.job.task}'", key="job.task", hint="only the generator encodes videos")
        raise UserError("this recipe has nothing to cache", [problem])
    clips = [clip for source in _sources(config, plugins) for clip in islice(_clips(source), rank, None, world)]
    device = _device(rank)
    family = VfmFamily(config.model, BuildContext(device, evolve(config.dataloader_train, cache=None)))
    codec = family.codec  # Before the folder, which is to name a codec that works.
    cache = family.open_cache(str(job.output), create=True)
    counts: Counter[str] = Counter(clips=len(clips))
    with Progress(transient=True, disable=rank > 0) as progress:
        task = progress.add_task("encoding", total=len(clips))
        for run in _runs(_works(clips, cache, counts), job.batch):
            latents = codec.encode(torch.stack([_pixels(work) for work in run]).to(device))
            for work, value in zip(run, latents.cpu(), strict=True):
                ids = family.text.ids(work.sample.caption, config.dataloader_train.max_caption_tokens)
                cache.write(work.identity, Cached(value, work.sample.caption, ids))
            counts["encoded"] += len(run)
            progress.update(task, completed=counts["encoded"] + counts["kept"] + counts["unreadable"])
    return counts


def _device(rank: int) -> torch.device:
    """This process's own, where there are any."""
    return torch.device("cuda", rank % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")


def _sources(config: RunConfig, plugins: PluginManager) -> list[MapSource]:
    """Training and validation data."""
    loaders = (config.dataloader_train, config.dataloader_val)
    return [
        plugins.registry.get(DatasetSpec, loader.dataset.type).source.load()(loader.dataset)
        for loader in loaders
        if loader is not None
    ]


def _clips(source: MapSource) -> Iterator[VideoText | UnreadableSample]:
    for sample in source.lazy_samples():
        if isinstance(sample, VideoText) and isinstance(sample.video, torch.Tensor):
            problem = Problem(
                message="cannot list its clips without decoding them", key="dataloader_train.dataset.type"
            )
            raise UserError("this dataset cannot be cached", [problem])
        yield sample


def _works(clips: list[VideoText | UnreadableSample], cache: LatentCache, counts: Counter[str]) -> Iterator[_Work]:
    """What is to encode, decoded ahead by some threads."""
    seen: set[str] = set()
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(clips), 8 * READERS):
            ahead = clips[start : start + 8 * READERS]
            for work in pool.map(lambda clip: _read(clip, cache), ahead):
                if isinstance(work, UnreadableSample):
                    counts["unreadable"] += 1
                    logger.warning("skipped %s: %s", work.where, work.reason)
                elif work.video is None or work.identity in seen:
                    counts["kept"] += 1
                else:
                    seen.add(work.identity)
                    yield work


def _read(clip: VideoText | UnreadableSample, cache: LatentCache) -> _Work | UnreadableSample:
    if isinstance(clip, UnreadableSample):
        return clip
    stored: StoredClip = clip.video  # type: ignore[assignment]
    try:
        identity = stored.identity()
        known = cache.read(identity, clip.caption) is not None
        return _Work(identity, clip, None if known else stored.load())
    except UnreadableSample as error:
        return error


def _runs(works: Iterable[_Work], size: int) -> Iterator[list[_Work]]:
    """At most `size` neighbours of one shape."""
    run: list[_Work] = []
    for work in works:
        if run and (len(run) == size or _pixels(run[0]).shape != _pixels(work).shape):
            yield run
            run = []
        run.append(work)
    if run:
        yield run


def _pixels(work: _Work) -> torch.Tensor:
    assert work.video is not None
    return work.video
