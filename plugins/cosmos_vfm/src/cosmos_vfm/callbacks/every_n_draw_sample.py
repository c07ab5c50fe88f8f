"""Samples of validation (or training) captions before, during and after training, as PNG sheets and mp4 files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch

from cosmos_core.data import UnreadableSample, VideoText
from cosmos_core.data.video import write_mp4
from cosmos_core.seeds import stream_seed
from cosmos_core.train import Callback, CallbackContext, Media, Trainer
from cosmos_vfm.callbacks.contact_sheet import Row, write_contact_sheet
from cosmos_vfm.config import DrawSamples
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.sampling import SampleRequest
from cosmos_vfm.tokenizer.video import TEMPORAL

__all__ = ["DrawSamplesCallback"]

logger = logging.getLogger(__name__)


class DrawSamplesCallback(Callback):
    """Writes ``step_<9 digits>.png`` and one mp4 per sample each time, and ``comparison.png`` at the end.

    Samples use the averaged weights if there are any, and the same noise every time.
    """

    config: DrawSamples

    def __init__(self, config: DrawSamples, context: CallbackContext) -> None:
        super().__init__(config, context)
        self._before: list[torch.Tensor] = []

    def train_start(self, trainer: Trainer) -> None:
        """Draw from the initial weights."""
        if trainer.validation is None and trainer.is_main:
            logger.info("every_n_draw_sample takes its captions from the training data: there is no validation data")
        if trainer.step == 0:
            self._before = self._draw(trainer)

    def step_end(self, trainer: Trainer) -> None:
        """Draw every `every_n` steps."""
        due = self.config.every_n and trainer.step % self.config.every_n == 0 and trainer.step < trainer.max_iter
        if due:
            self._draw(trainer)

    def train_end(self, trainer: Trainer) -> None:
        """Draw from the final weights and write the comparison."""
        after = self._draw(trainer)
        if not trainer.is_main:
            return
        items = self._items(trainer)
        columns = {"ground truth": [item.pixels() for item in items], f"after {trainer.step} steps": after}
        if self._before:
            columns = {"before training": self._before, **columns}
        rows = [Row(item.caption, clips) for item, *clips in zip(items, *columns.values(), strict=True)]
        write_contact_sheet(self.context.folder / "comparison.png", list(columns), rows)

    def _items(self, trainer: Trainer) -> Sequence[VideoText]:
        """The first readable samples."""
        source = (trainer.validation or trainer.loader).source
        items: list[VideoText] = []
        for index in range(len(source)):
            if len(items) == self.config.count:
                break
            with suppress(UnreadableSample):
                items.append(source.get(index, np.random.default_rng(stream_seed(0, "draw", index))))
        return items

    def _draw(self, trainer: Trainer) -> list[torch.Tensor]:
        assert isinstance(trainer.family, VfmFamily)
        items = self._items(trainer)
        requests = [SampleRequest(item.caption, *_size(item), item.fps, _condition(item)) for item in items]
        training = trainer.model.training
        trainer.model.eval()
        with torch.no_grad(), trainer.averaged_weights():
            videos = trainer.family.sample(
                trainer.model,
                requests,
                seed=self.config.seed,
                steps=self.config.steps,
                guidance=self.config.guidance,
                shift=self.config.shift,
            )
        trainer.model.train(training)
        if trainer.is_main:
            self._write(trainer.step, items, videos)
            self._log(trainer)
        return videos

    def _log(self, trainer: Trainer) -> None:
        """Give what was drawn at this step to the trackers."""
        name = f"step_{trainer.step:09d}"
        media = [Media("samples/sheet", self.context.folder / f"{name}.png")]
        for file in sorted((self.context.folder / name).glob("sample_*")):
            if file.suffix in (".mp4", ".png"):
                caption = file.with_suffix(".txt").read_text(encoding="utf-8").strip()
                media.append(Media(f"samples/{file.stem}", file, caption))
        trainer.trackers.log_media(trainer.step, media)

    def _write(self, step: int, items: Sequence[VideoText], videos: list[torch.Tensor]) -> None:
        name = f"step_{step:09d}"
        rows = [Row(item.caption, [video]) for item, video in zip(items, videos, strict=True)]
        write_contact_sheet(self.context.folder / f"{name}.png", [f"after {step} steps"], rows)
        folder = self.context.folder / name
        folder.mkdir(exist_ok=True)
        for index, (item, video) in enumerate(zip(items, videos, strict=True)):
            write_mp4(folder / f"sample_{index:02d}.mp4", video.permute(1, 2, 3, 0).cpu().numpy(), item.fps)
            (folder / f"sample_{index:02d}.txt").write_text(item.caption + "\n", encoding="utf-8")


def _size(item: VideoText) -> tuple[int, int, int]:
    """Frames, height and width."""
    _, frames, height, width = item.video.shape
    return frames, height, width


def _condition(item: VideoText) -> torch.Tensor | None:
    """First frames of the clip that training would condition on: 1 for image to video, more for video to video."""
    if not item.condition_frames:
        return None
    return item.pixels()[:, : 1 + TEMPORAL * (item.condition_frames - 1)]
