"""Draws the loss curve of a run from its metrics file."""

from __future__ import annotations

from typing import Any

import numpy as np

from cosmos_core.builtin.config import LossCurve
from cosmos_core.plan.paths import RunPaths
from cosmos_core.report.metrics_file import read_metrics
from cosmos_core.train.callback import Callback
from cosmos_core.train.tracker import Media
from cosmos_core.train.trainer import Trainer

__all__ = ["LossCurveCallback"]

WINDOW = 20
"""Steps in the running mean."""


class LossCurveCallback(Callback):
    """``loss_curve.png``: training loss, its running mean, validation loss."""

    config: LossCurve

    def step_end(self, trainer: Trainer) -> None:
        """Redraw every `every_n` steps."""
        if trainer.step % self.config.every_n == 0:
            self._draw(trainer)

    def train_end(self, trainer: Trainer) -> None:
        """Draw the whole run, and give the picture to the trackers."""
        self._draw(trainer)
        picture = self.context.folder / "loss_curve.png"
        if trainer.is_main and self.config.enabled and picture.is_file():
            trainer.trackers.log_media(trainer.step, [Media("loss_curve", picture)])

    def _draw(self, trainer: Trainer) -> None:
        metrics = RunPaths(self.context.run_dir).metrics
        if not (self.config.enabled and trainer.is_main and metrics.is_file()):
            return
        records = read_metrics(metrics)
        # A loss that is not finite is null in the file; the curve has a gap there.
        steps = [record for record in records.steps if record.get("loss") is not None]
        figure = _figure(steps, [record for record in records.validations if record["val_loss"] is not None])
        hidden = self.context.folder / ".loss_curve.partial.png"
        figure.savefig(hidden, dpi=110)
        hidden.replace(self.context.folder / "loss_curve.png")


def _figure(steps: list[dict[str, Any]], validations: list[dict[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    x, loss = [record["step"] for record in steps], np.array([record["loss"] for record in steps])
    axes.plot(x, loss, color="tab:blue", alpha=0.25, linewidth=1, label="training loss")
    if len(loss) >= WINDOW:
        mean = np.convolve(loss, np.full(WINDOW, 1 / WINDOW), mode="valid")
        axes.plot(x[WINDOW - 1 :], mean, color="tab:blue", label=f"mean of {WINDOW} steps")
    if validations:
        points = [record["step"] for record in validations], [record["val_loss"] for record in validations]
        axes.plot(*points, "o-", color="tab:orange", label="validation loss")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
