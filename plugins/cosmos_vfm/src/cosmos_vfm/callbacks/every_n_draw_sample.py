"""Samples of captions before, during and after training: clips, a page that plays them, and PNG sheets."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from cosmos_core.train import Callback, CallbackContext, Media, Trainer
from cosmos_vfm.callbacks.previews import Preview, of_data, of_prompts, truths
from cosmos_vfm.config import DrawSamples
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.generate.contact_sheet import Row, write_contact_sheet
from cosmos_vfm.generate.outputs import PAGE, write_clip
from cosmos_vfm.generate.page import Cell, PageRow, write_page
from cosmos_vfm.network import Cosmos3Network

__all__ = ["DrawSamplesCallback"]

logger = logging.getLogger(__name__)

TRUTH = "ground_truth"


class DrawSamplesCallback(Callback):
    """Writes ``step_<9 digits>.png``, clips and ``index.html`` each time, and ``comparison.png`` at the end.

    Samples use the averaged weights if there are any, and the same noise every time. Layers run as they are written:
    training has compiled nothing that a pass without gradients could use, and compiling takes longer than a few clips.
    """

    config: DrawSamples

    def __init__(self, config: DrawSamples, context: CallbackContext) -> None:
        super().__init__(config, context)
        self._before: list[torch.Tensor] = []
        self._previews: list[Preview] = []

    def train_start(self, trainer: Trainer) -> None:
        """Draw from the initial weights."""
        self._previews = self._choose_previews(trainer)
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
        columns = {f"after {trainer.step} steps": after}
        if ground_truth := truths(self._previews):
            columns = {"ground truth": ground_truth, **columns}
        if self._before:
            columns = {"before training": self._before, **columns}
        rows = [Row(preview.caption, clips) for preview, *clips in zip(self._previews, *columns.values(), strict=True)]
        write_contact_sheet(self.context.folder / "comparison.png", list(columns), rows)

    def _choose_previews(self, trainer: Trainer) -> list[Preview]:
        """The prompts if there are any, else samples of the validation data, else of the training data."""
        assert isinstance(trainer.family, VfmFamily)
        source = (trainer.validation or trainer.loader).source
        if self.config.prompts or self.config.prompts_file:
            return of_prompts(self.config, trainer.family.config, source)
        if trainer.validation is None and trainer.is_main:
            runs = trainer.config.trainer.run_validation
            reason = "there is no validation data" if runs else "trainer.run_validation is false"
            logger.info("every_n_draw_sample takes its captions from the training data: %s", reason)
        return of_data(source, self.config.count)

    def _draw(self, trainer: Trainer) -> list[torch.Tensor]:
        assert isinstance(trainer.family, VfmFamily)
        assert isinstance(trainer.model, Cosmos3Network)
        training = trainer.model.training
        trainer.model.eval()
        with torch.no_grad(), trainer.averaged_weights(), trainer.model.as_written():
            videos = trainer.family.sample(
                trainer.model,
                [preview.request for preview in self._previews],
                seed=self.config.seed,
                seeds=[preview.seed for preview in self._previews],
                steps=self.config.steps,
                guidance=self.config.guidance,
                shift=self.config.shift,
            )
        trainer.model.train(training)
        if trainer.is_main:
            self._write(trainer.step, videos)
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

    def _write(self, step: int, videos: Sequence[torch.Tensor]) -> None:
        name = f"step_{step:09d}"
        rows = [Row(preview.caption, [video]) for preview, video in zip(self._previews, videos, strict=True)]
        write_contact_sheet(self.context.folder / f"{name}.png", [f"after {step} steps"], rows)
        self._write_clips(name, videos)
        if not (self.context.folder / TRUTH).exists() and (ground_truth := truths(self._previews)):
            self._write_clips(TRUTH, ground_truth)
        self._write_page()

    def _write_clips(self, name: str, videos: Sequence[torch.Tensor]) -> None:
        folder = self.context.folder / name
        folder.mkdir(exist_ok=True)
        for index, (preview, video) in enumerate(zip(self._previews, videos, strict=True)):
            write_clip(folder, f"sample_{index:02d}", video.cpu(), preview.request.fps)
            (folder / f"sample_{index:02d}.txt").write_text(preview.caption + "\n", encoding="utf-8")

    def _write_page(self) -> None:
        """All steps that were drawn so far, also by earlier launches of the run."""
        folders = [self.context.folder / TRUTH, *sorted(self.context.folder.glob("step_*/"))]
        rows = []
        for index, preview in enumerate(self._previews):
            files = [file for folder in folders for file in folder.glob(f"sample_{index:02d}.[mp][pn][4g]")]
            cells = [
                Cell(_title(file.parent.name), f"{file.parent.name}/{file.name}", preview.request.width)
                for file in files
            ]
            rows.append(PageRow(preview.caption, cells))
        write_page(self.context.folder / PAGE, "Samples during training", rows)


def _title(folder: str) -> str:
    return "ground truth" if folder == TRUTH else f"after {int(folder.removeprefix('step_'))} steps"
