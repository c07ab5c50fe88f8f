"""Options of the `bridge` dataset (docs/data.md, Captioned clips)."""

from __future__ import annotations

import re
from math import inf
from typing import Any

from attrs import frozen

from cosmos_core.config import FileDatasetConfig, TypicalSample, option, required
from cosmos_data_bridge.resolution import TIERS

__all__ = ["BridgeConfig"]

USUAL_FRAMES, USUAL_CAPTION = 93, 735
"""Frames of a clip, and tokens of a structured caption."""
CONDITION_FRAMES = re.compile(r"0|[1-9][0-9]{0,5}")
"""One way to write each number: of two ways, one would lose its weight."""


@frozen(kw_only=True)
class BridgeConfig(FileDatasetConfig):
    """Captioned clips listed in a JSONL file."""

    path: str = required("Dataset root, the folder that holds train/ and val/.")
    split: str = option("train", "Folder below the root.")
    jsonl: str = option("video_dataset_file.jsonl", "Index of the split; .gz is read too.")
    resolution: str = option("720", "Tier; the training size follows from the aspect ratio.", choices=tuple(TIERS))
    num_video_frames: int = option(-1, "Frames of a sample; -1: the window as it is.", unit="frames", low=1, also=(-1,))
    temporal_interval_mode: str = option(
        "entire_chunk",
        "Step between frames when num_video_frames is set.",
        choices=("force_one", "max_30fps", "entire_chunk"),
    )
    frame_selection_mode: str = option(
        "center", "Where the frames lie in the window.", choices=("first", "center", "random")
    )
    min_window_frames: int = option(61, "Shorter windows are left out.", unit="frames", low=1)
    max_duration: float = option(61.0, "Longer clips are left out.", unit="seconds", above=0)
    min_short_edge: int = option(0, "Smaller clips are left out.", unit="pixels", low=0)
    sample_by_window: bool = option(False, "Every window is a sample; else a random one of each clip.")
    cfg_dropout_rate: float = option(0.1, "Share of captions replaced by an empty one.", low=0, high=1)
    cfg_dropout_keep_metadata: bool = option(
        False, "Keep the duration and size sentences of dropped captions.", unless=("cfg_dropout_rate", (0.0,))
    )
    append_duration_fps_timestamps: bool = option(True, "End plain captions with duration and frame rate.")
    append_resolution_info: bool = option(True, "End plain captions with the training size.")
    caption_suffix: str = option("", "Appended to plain captions.")
    conditioning_fps: float = option(
        -1.0, "Frame rate given to the model; -1: the true one.", unit="frames/s", low=0.01, high=1000, also=(-1,)
    )
    conditioning_config: dict[str, float] = option(
        {"0": 0.7, "1": 0.2, "2": 0.1},
        "Number of clean leading latent frames -> weight (0: T2V, 1: I2V, 2: V2V), divided by their sum.",
        low=0,
        one_value=True,
    )
    cache_decoded: bool = option(False, "Keep decoded clips in memory; for small datasets.")

    @conditioning_config.validator
    def _is_a_mix(self, attribute: Any, mix: dict[str, float]) -> None:
        for frames in mix:
            if not CONDITION_FRAMES.fullmatch(frames):
                raise ValueError(f"keys must be numbers of latent frames, such as 2; got {frames!r:.80}")
        if not 0 < sum(mix.values()) < inf:
            raise ValueError("needs at least one positive weight, and a finite sum")

    @property
    def typical(self) -> TypicalSample:
        """A wide clip of four seconds, or of `num_video_frames`, with a structured caption."""
        width, height = TIERS[self.resolution]["16,9"]
        frames = USUAL_FRAMES if self.num_video_frames < 0 else self.num_video_frames
        return TypicalSample(frames=frames, height=height, width=width, text=USUAL_CAPTION)

    @property
    def place(self) -> str | None:
        """The configured path."""
        return self.path
