"""Options of the `videophy2` dataset (docs/data.md, VideoPhy-2)."""

from __future__ import annotations

from attrs import frozen

from cosmos_core.config import FileDatasetConfig, TypicalSample, option, required

__all__ = ["VideophyConfig"]

USUAL_SECONDS, USUAL_QUESTION = 5, 230
"""Length of a video, and tokens of question and answer."""


@frozen(kw_only=True)
class VideophyConfig(FileDatasetConfig):
    """Videos with a question about their physics and a rating as the answer."""

    path: str = required("Folder that holds videophy2_train/ and videophy2_val/.")
    split: str = option("train", "Which of the two.", choices=("train", "val"))
    target_fps: float = option(2.0, "Frames are sampled at about this rate.", unit="frames/s", low=0.1)
    max_frames: int = option(32, "Most frames of a video, spread evenly.", unit="frames", low=2)
    cache_decoded: bool = option(False, "Keep decoded clips in memory; for small datasets.")

    @property
    def typical(self) -> TypicalSample:
        """A clip of five seconds, with the question and the rating."""
        frames = min(self.max_frames, 2 * max(1, round(USUAL_SECONDS * self.target_fps / 2)))
        return TypicalSample(frames=frames, height=480, width=720, text=USUAL_QUESTION)

    @property
    def place(self) -> str | None:
        """The configured path."""
        return self.path
