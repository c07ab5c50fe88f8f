"""Fills a latent cache, in one or several processes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from attrs import evolve, frozen

from cosmos_core.config import disabled_plugins
from cosmos_core.console import progress
from cosmos_core.data import MapSource, StoredClip, UnreadableSample, VideoText
from cosmos_core.errors import Problem, UserError, make_folder, writing
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import resolve
from cosmos_core.train import BuildContext
from cosmos_core.train.build import open_dataset
from cosmos_vfm.cache import Cached, LatentCache
from cosmos_vfm.config import VfmConfig, compiles_encoder
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.ranks import Rank, spawn_ranks

__all__ = ["Job", "encode", "encode_in_processes"]

logger = logging.getLogger(__name__)

READERS = 4


@frozen
class Job:
    """One `cosmos data cache` command. batch: how many same-shape clips are encoded together."""

    recipe: str
    overrides: tuple[str, ...]
    output: Path
    batch: int


@frozen(eq=False)
class _ClipToEncode:
    """video is None when the cache already has the clip."""

    identity: str
    sample: VideoText
    video: torch.Tensor | None


def encode_in_processes(job: Job, count: int) -> Counter[str]:
    """Encode in `count` processes, each on its own device if there are any. Raises the first UserError of a process."""
    counts: Counter[str] = Counter()
    for of_rank in spawn_ranks(_encode_rank, job, count):
        counts.update(of_rank)
    return counts


def _encode_rank(job: Job, rank: Rank) -> Counter[str]:
    return encode(job, rank, PluginManager.discover(disabled_plugins()))


def encode(job: Job, rank: Rank, plugins: PluginManager) -> Counter[str]:
    """Encode this rank's share of the clips that the cache lacks. Returns counts.

    Raises UserError when the clips cannot be listed, or another video tokenizer made the folder.
    """
    config = resolve(job.recipe, job.overrides, plugins=plugins).config
    if not isinstance(config.model, VfmConfig):
        problem = Problem(message=f"is '{config.job.task}'", key="job.task", hint="only the generator encodes videos")
        raise UserError("this recipe has nothing to cache", [problem])
    sources = [open_dataset(section, plugins, name) for name, section in config.data_sections.items()]
    clips = [clip for source in sources for clip in islice(_clips(source), rank.number, None, rank.count)]
    device = rank.device
    family = VfmFamily(config.model, BuildContext(device, evolve(config.dataloader_train, cache=None)))
    if compiles_encoder(config) and device.type == "cuda":
        family.compile_video_tokenizer()
    video_tokenizer = family.video_tokenizer  # Loaded first, so that a bad one leaves no folder behind.
    make_folder(job.output, "nothing was encoded")
    cache = family.open_cache(str(job.output), create=True)
    counts: Counter[str] = Counter(clips=len(clips))
    with progress("encoding", len(clips), "clips", shown=rank.number == 0) as encoding:
        for group in _same_shape_groups(_clips_to_encode(clips, cache, counts), job.batch):
            latents = video_tokenizer.encode(torch.stack([_pixels(clip) for clip in group]).to(device))
            for clip, value in zip(group, latents.cpu(), strict=True):
                ids = family.text.ids(clip.sample.caption, config.dataloader_train.max_caption_tokens)
                with writing(job.output):
                    cache.write(clip.identity, Cached(value, clip.sample.caption, ids))
            counts["encoded"] += len(group)
            encoding.advance(counts["encoded"] + counts["kept"] + counts["unreadable"] - encoding.done)
    return counts


def _clips(source: MapSource) -> Iterator[VideoText | UnreadableSample]:
    for sample in source.lazy_samples():
        if isinstance(sample, VideoText) and isinstance(sample.video, torch.Tensor):
            problem = Problem(
                message="cannot list its clips without decoding them", key="dataloader_train.dataset.type"
            )
            raise UserError("this dataset cannot be cached", [problem])
        yield sample


def _clips_to_encode(
    clips: list[VideoText | UnreadableSample], cache: LatentCache, counts: Counter[str]
) -> Iterator[_ClipToEncode]:
    """Clips that the cache lacks, decoded ahead by threads."""
    seen: set[str] = set()
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(clips), 8 * READERS):
            ahead = clips[start : start + 8 * READERS]
            for clip in pool.map(lambda sample: _read(sample, cache), ahead):
                if isinstance(clip, UnreadableSample):
                    counts["unreadable"] += 1
                    logger.warning("skipped %s: %s", clip.where, clip.reason)
                elif clip.video is None or clip.identity in seen:
                    counts["kept"] += 1
                else:
                    seen.add(clip.identity)
                    yield clip


def _read(sample: VideoText | UnreadableSample, cache: LatentCache) -> _ClipToEncode | UnreadableSample:
    if isinstance(sample, UnreadableSample):
        return sample
    stored: StoredClip = sample.video  # type: ignore[assignment]
    try:
        identity = stored.identity()
        is_cached = cache.read(identity, sample.caption) is not None
        return _ClipToEncode(identity, sample, None if is_cached else stored.load())
    except UnreadableSample as error:
        return error


def _same_shape_groups(clips: Iterable[_ClipToEncode], size: int) -> Iterator[list[_ClipToEncode]]:
    """Groups of at most `size` consecutive clips of one shape."""
    group: list[_ClipToEncode] = []
    for clip in clips:
        if group and (len(group) == size or _pixels(group[0]).shape != _pixels(clip).shape):
            yield group
            group = []
        group.append(clip)
    if group:
        yield group


def _pixels(clip: _ClipToEncode) -> torch.Tensor:
    assert clip.video is not None
    return clip.video
