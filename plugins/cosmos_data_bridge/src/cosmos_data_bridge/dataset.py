"""The `bridge` dataset: clips and captions from a JSONL file, decoded on demand."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from attrs import evolve

from cosmos_core.config import TypicalSample
from cosmos_core.data import MapSource, UnreadableSample, VideoText
from cosmos_core.data.dropped import Dropped
from cosmos_core.data.jsonl import ClipIndex, ClipRecord, Window, captions_of
from cosmos_core.data.lengths import tokens_of
from cosmos_core.data.video import ClipFile, Timeline, probe
from cosmos_data_bridge.captions import ClipFacts, choose, model_text
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.facts import differences
from cosmos_data_bridge.frames import Selection, select, used_frames
from cosmos_data_bridge.index import read_index
from cosmos_data_bridge.resolution import target_size

__all__ = ["BridgeSource"]

logger = logging.getLogger(__name__)

MAX_LOGGED = 5
"""Wrong records that each process tells of."""
SQUARE = "count as square; `ffmpeg -i IN -vf scale=iw*sar:ih,setsar=1 OUT` makes them so"
LENGTHS = "since a sample has 1 + 4n frames"


class BridgeSource(MapSource):
    """VideoText records: a sample is a clip, or a window with `sample_by_window`."""

    def __init__(self, config: BridgeConfig) -> None:
        self.config = config
        index = self.read_index(config)
        self._dropped = index.dropped
        self._digest = index.digest[:12]
        self._entries: list[tuple[ClipRecord, tuple[Window, ...]]] = [
            entry
            for clip in index.clips
            for entry in (
                [(clip, (window,)) for window in clip.windows] if config.sample_by_window else [(clip, clip.windows)]
            )
        ]
        weights = {int(frames): weight for frames, weight in config.conditioning_config.items()}
        self._condition_frames = list(weights)
        self._probabilities = np.array(list(weights.values())) / sum(weights.values())
        self._decoded: dict[ClipFile, torch.Tensor] = {}
        self._told = 0
        self._stretched_told = False
        self._length_told = config.num_video_frames != -1
        used, frames = used_frames((window for _, windows in self._entries for window in windows), config)
        if used < frames:
            dropped = f"the last {frames - used} of {frames} frames of all windows are dropped"
            logger.info("%s: %s, %s", config.type, dropped, LENGTHS)

    @staticmethod
    def read_index(config: BridgeConfig) -> ClipIndex:
        """The clips that the configuration names. Raises UserError."""
        return read_index(config)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def filtered(self) -> Mapping[str, int]:
        """Number of clips and windows that the configured filters leave out, by reason."""
        return {dropped.reason: dropped.count for dropped in self._dropped}

    @property
    def dropped(self) -> Sequence[Dropped]:
        """The same with options and examples."""
        return self._dropped

    def key(self, index: int) -> str:
        """The clip's name."""
        return self._entries[index][0].uuid

    def identity(self, index: int) -> str:
        """The clip's name, and its window when windows are samples."""
        clip, windows = self._entries[index]
        return f"{clip.uuid}_w{windows[0].index}" if self.config.sample_by_window else clip.uuid

    def differences(self, index: int) -> Sequence[str]:
        """How the record of a clip differs from its file; nothing for a file that cannot be read."""
        clip, _ = self._entries[index]
        try:
            return differences(clip, probe(clip.path))
        except UnreadableSample:
            return ()

    @property
    def fingerprint(self) -> str:
        """Split, samples, and their records; not the videos themselves."""
        return f"{len(self)} samples of {self.config.split}/{self.config.jsonl} ({self._digest})"

    def get(self, index: int, random: np.random.Generator) -> VideoText:
        """Sample `index`; window, frames, caption dropout and conditioning frames come from `random`."""
        sample = self.get_lazy(index, random)
        assert isinstance(sample.video, ClipFile)
        return replace(sample, video=self._decode(sample.video))

    def get_lazy(self, index: int, random: np.random.Generator) -> VideoText:
        """The same, with the clip not decoded yet."""
        clip, windows = self._entries[index]
        return self._sample(clip, windows[int(random.integers(len(windows)))], self.config, random)

    def dimensions(self, index: int) -> TypicalSample:
        """Of the first window, from the file's header; of some the caption is dropped, as training drops it."""
        clip, windows = self._entries[index]
        sample = self._sample(clip, windows[0], self.config, np.random.default_rng(index))
        _, frames, height, width = sample.video.shape
        return TypicalSample(frames=frames, height=height, width=width, text=tokens_of(sample.caption))

    def lazy_samples(self) -> Iterator[VideoText | UnreadableSample]:
        """Every window with its caption, or the reason why it cannot be used."""
        without_dropout = evolve(self.config, cfg_dropout_rate=0.0)
        for clip, windows in self._entries:
            for window in windows:
                try:
                    yield self._sample(clip, window, without_dropout, np.random.default_rng(0))
                except UnreadableSample as error:
                    yield error

    def _sample(self, clip: ClipRecord, window: Window, config: BridgeConfig, random: np.random.Generator) -> VideoText:
        key = f"{clip.uuid}_w{window.index}"
        timeline = probe(clip.path)
        self._check(key, clip, timeline)
        frames = select(window, timeline, config, str(clip.path), random)
        self._tell_length(key, window, frames, timeline)
        caption = choose(captions_of(clip, window), random)
        if caption is None:
            raise UnreadableSample(key, "no caption")
        size = target_size(config.resolution, timeline.width, timeline.height)
        fps = config.conditioning_fps if config.conditioning_fps > 0 else float(timeline.fps) / frames.step
        text = model_text(caption, ClipFacts(frames.count, fps, *size), config, random)
        condition_frames = int(random.choice(self._condition_frames, p=self._probabilities))
        stored = ClipFile(clip.path, frames.first, frames.last, frames.step, size)
        return VideoText(key=key, video=stored, caption=text, fps=fps, condition_frames=condition_frames)

    def _check(self, key: str, clip: ClipRecord, timeline: Timeline) -> None:
        """Apply the filters to what the record leaves to the file; tell of the first records that differ from it."""
        duration = timeline.frames / float(timeline.fps)
        if clip.duration is None and duration > self.config.max_duration:
            raise UnreadableSample(key, f"longer than {self.config.max_duration:g} s", "max_duration")
        if min(timeline.width, timeline.height) < self.config.min_short_edge:
            raise UnreadableSample(key, f"short edge under {self.config.min_short_edge} pixels", "min_short_edge")
        if timeline.pixel_ratio != 1 and not self._stretched_told:
            self._stretched_told = True
            ratio = f"{timeline.pixel_ratio.numerator}:{timeline.pixel_ratio.denominator}"
            logger.warning("%s looks squeezed, perhaps others too: its pixels are %s, and %s", clip.path, ratio, SQUARE)
        differing = differences(clip, timeline) if self._told < MAX_LOGGED else []
        if differing:
            self._told += 1
            more = "; `cosmos data check` tells of all" if self._told == MAX_LOGGED else ""
            logger.warning("the record of %s is wrong: %s%s", clip.uuid, "; ".join(differing), more)

    def _tell_length(self, key: str, window: Window, frames: Selection, timeline: Timeline) -> None:
        """Tell of the first sample that drops frames, where only the file knows the window's length."""
        if self._length_told or window.end is not None:
            return
        there = 1 + (timeline.frames - 1 - window.start) // window.interval
        if frames.count < there:
            self._length_told = True
            logger.info("%s: the last %d of its %d frames are dropped, %s", key, there - frames.count, there, LENGTHS)

    def _decode(self, stored: ClipFile) -> torch.Tensor:
        if not self.config.cache_decoded:
            return stored.load()
        if stored not in self._decoded:
            self._decoded[stored] = stored.load()
        return self._decoded[stored]
