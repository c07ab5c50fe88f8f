"""The `bridge` dataset: clips and captions from a JSONL file, decoded on demand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cosmos_core.data import UnreadableSample, VideoText
from cosmos_core.data.jsonl import Clip, ClipFilter, Window, captions_of, read_clips
from cosmos_core.data.video import Probe, decode, probe
from cosmos_data_bridge.captions import ClipFacts, choose, model_text
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.frames import Selection, select
from cosmos_data_bridge.resolution import target_size

__all__ = ["BridgeSource"]


class BridgeSource:
    """MapSource of VideoText; one entry a clip, or a window with `sample_by_window`."""

    def __init__(self, config: BridgeConfig) -> None:
        self.config = config
        root = Path(config.path)
        chosen = ClipFilter(config.max_duration, config.min_short_edge, config.min_window_frames)
        clips = read_clips(root / config.split / config.jsonl, root, chosen)
        self._entries: list[tuple[Clip, tuple[Window, ...]]] = [
            entry
            for clip in clips
            for entry in (
                [(clip, (window,)) for window in clip.windows] if config.sample_by_window else [(clip, clip.windows)]
            )
        ]
        frequencies = {int(frames): share for frames, share in config.conditioning_config.items()}
        self._clean = list(frequencies)
        self._probabilities = np.array(list(frequencies.values())) / sum(frequencies.values())
        self._probed: dict[Path, Probe] = {}
        self._decoded: dict[tuple[Path, Selection], torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, index: int, random: np.random.Generator) -> VideoText:
        """Sample `index`; window, frames, caption dropout and conditioning frames come from `random`."""
        config = self.config
        clip, windows = self._entries[index]
        window = windows[int(random.integers(len(windows)))]
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
        return VideoText(key=key, video=self._video(clip, chosen, size), caption=text, fps=fps, condition_frames=clean)

    def _probe(self, path: Path) -> Probe:
        if path not in self._probed:
            self._probed[path] = probe(path)
        return self._probed[path]

    def _video(self, clip: Clip, chosen: Selection, size: tuple[int, int]) -> torch.Tensor:
        kept = self._decoded.get((clip.path, chosen))
        if kept is not None:
            return kept
        source = (clip.width, clip.height)
        frames = decode(clip.path, chosen.first, chosen.last, chosen.step, source=source, target=size)
        video = torch.from_numpy(frames).permute(3, 0, 1, 2).contiguous()
        if self.config.cache_decoded:
            self._decoded[clip.path, chosen] = video
        return video
