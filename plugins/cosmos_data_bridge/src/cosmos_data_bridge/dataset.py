"""The `bridge` dataset: clips and captions from a JSONL file, decoded on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from attrs import evolve

from cosmos_core.data import MapSource, UnreadableSample, VideoText
from cosmos_core.data.jsonl import ClipFilter, ClipRecord, Window, captions_of, read_clips
from cosmos_core.data.video import ClipFile, Probe, probe
from cosmos_data_bridge.captions import ClipFacts, choose, model_text
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.frames import select
from cosmos_data_bridge.resolution import target_size

__all__ = ["BridgeSource"]


class BridgeSource(MapSource):
    """VideoText records; one entry a clip, or a window with `sample_by_window`."""

    def __init__(self, config: BridgeConfig) -> None:
        self.config = config
        root = Path(config.path)
        clip_filter = ClipFilter(config.max_duration, config.min_short_edge, config.min_window_frames)
        index = read_clips(root / config.split / config.jsonl, root, clip_filter)
        self._filtered = index.dropped
        self._digest = index.digest[:12]
        self._entries: list[tuple[ClipRecord, tuple[Window, ...]]] = [
            entry
            for clip in index.clips
            for entry in (
                [(clip, (window,)) for window in clip.windows] if config.sample_by_window else [(clip, clip.windows)]
            )
        ]
        frequencies = {int(frames): share for frames, share in config.conditioning_config.items()}
        self._clean = list(frequencies)
        self._probabilities = np.array(list(frequencies.values())) / sum(frequencies.values())
        self._probed: dict[Path, Probe] = {}
        self._decoded: dict[ClipFile, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def filtered(self) -> Mapping[str, int]:
        """Clips and windows that the filters of the section leave out."""
        return self._filtered

    @property
    def fingerprint(self) -> str:
        """Split, samples, and their records; what the files show is not looked at."""
        return f"{len(self)} samples of {self.config.split}/{self.config.jsonl} ({self._digest})"

    def get(self, index: int, random: np.random.Generator) -> VideoText:
        """Sample `index`; window, frames, caption dropout and conditioning frames come from `random`."""
        sample = self.get_lazy(index, random)
        assert isinstance(sample.video, ClipFile)
        return replace(sample, video=self._decode(sample.video))

    def get_lazy(self, index: int, random: np.random.Generator) -> VideoText:
        """The same, the clip not decoded yet."""
        clip, windows = self._entries[index]
        return self._sample(clip, windows[int(random.integers(len(windows)))], self.config, random)

    def lazy_samples(self) -> Iterator[VideoText | UnreadableSample]:
        """Every window, captioned, or why it cannot be used."""
        kept = evolve(self.config, cfg_dropout_rate=0.0)
        for clip, windows in self._entries:
            for window in windows:
                try:
                    yield self._sample(clip, window, kept, np.random.default_rng(0))
                except UnreadableSample as error:
                    yield error

    def _sample(self, clip: ClipRecord, window: Window, config: BridgeConfig, random: np.random.Generator) -> VideoText:
        key = f"{clip.uuid}_w{window.index}"
        found = self._probe(clip.path)
        chosen = select(window, found, config, str(clip.path), random)
        caption = choose(captions_of(clip, window), random)
        if caption is None:
            raise UnreadableSample(key, "no caption")
        size = target_size(config.resolution, clip.width, clip.height)
        fps = config.conditioning_fps if config.conditioning_fps > 0 else float(found.fps) / chosen.step
        text = model_text(caption, ClipFacts(chosen.count, fps, *size), config, random)
        clean = int(random.choice(self._clean, p=self._probabilities))
        stored = ClipFile(clip.path, chosen.first, chosen.last, chosen.step, (clip.width, clip.height), size)
        return VideoText(key=key, video=stored, caption=text, fps=fps, condition_frames=clean)

    def _probe(self, path: Path) -> Probe:
        if path not in self._probed:
            self._probed[path] = probe(path)
        return self._probed[path]

    def _decode(self, stored: ClipFile) -> torch.Tensor:
        if not self.config.cache_decoded:
            return stored.load()
        if stored not in self._decoded:
            self._decoded[stored] = stored.load()
        return self._decoded[stored]
