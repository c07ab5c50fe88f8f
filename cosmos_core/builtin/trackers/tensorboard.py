"""Metrics to TensorBoard event files; a `[trackers.tensorboard]` table switches it on, unless it is disabled there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from cosmos_core.builtin.config import Tensorboard
from cosmos_core.data.samples import Answer
from cosmos_core.data.video import decode_frames, probe
from cosmos_core.plan.plan import RunPlan
from cosmos_core.train.tracker import Media, Tracker

__all__ = ["TensorboardTracker"]

CLIP = (480, 480)
"""Largest width and height of a clip on the board, pixels."""
MAX_FRAMES = 64
STILL_MILLISECONDS = 1000
"""Milliseconds that a clip of one frame is shown."""


class TensorboardTracker(Tracker):
    """Scalars under ``<run directory>/tensorboard/``; a resumed run writes over what it repeats."""

    def __init__(self, config: Tensorboard) -> None:
        self.config = config
        self._folder: Path | None = None
        self._writer: Any = None

    def start(self, plan: RunPlan, step: int) -> None:
        """Open the event file."""
        self._folder = plan.run_dir / "tensorboard"
        self._open(step + 1 if step else None)

    def rewind(self, step: int) -> None:
        """Open another event file, which hides what follows `step`."""
        self.finish("")
        self._open(step + 1)

    def _open(self, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step)

    def log(self, record: dict[str, Any]) -> None:
        """One scalar a metric; validation metrics under ``val/``."""
        prefix = "val" if "val_loss" in record else "train"
        for name, value in record.items():
            if name != "step":
                self._writer.add_scalar(f"{prefix}/{name}", value, record["step"])

    def log_answers(self, step: int, answers: Sequence[Answer]) -> None:
        """A text a sample."""
        for answer in answers:
            text = f"answered: {answer.prediction}\n\nthe data says: {answer.reference}"
            self._writer.add_text(f"val/answers/{answer.key}", text, step)

    def finish(self, outcome: str) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()

    def log_media(self, step: int, media: Sequence[Media]) -> None:
        """A picture each, of a clip an animated one; captions as text."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for item in media:
            content, (width, height) = _encoded(item.path)
            image = Summary.Image(encoded_image_string=content, width=width, height=height, colorspace=3)
            # add_video needs moviepy to do the same.
            self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=item.name, image=image)]), step)
            if item.caption:
                self._writer.add_text(f"{item.name}/caption", item.caption, step)


def _encoded(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A picture's file, or a clip as an animated GIF that is no larger than `CLIP`; with width and height."""
    if path.suffix != ".mp4":
        with Image.open(path) as opened:
            return path.read_bytes(), opened.size
    timeline = probe(path)
    numbers = range(0, timeline.frames, math.ceil(timeline.frames / MAX_FRAMES))
    pictures = [Image.fromarray(frame) for frame in decode_frames(path, numbers)]
    for picture in pictures:
        picture.thumbnail(CLIP)
    shown = [round(1000 * (after - before)) for before, after in pairwise(map(timeline.seconds, numbers))]
    content = BytesIO()
    durations = [*shown, *(shown[-1:] or [STILL_MILLISECONDS])]
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return content.getvalue(), pictures[0].size
