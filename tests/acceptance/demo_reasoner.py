"""Measures what the reasoner demo learned and prints it: ``python -m tests.acceptance.demo_reasoner RUN_DIR``.

The 500 held-out clips are put to the trained model as they are, with their frames in reverse order (gravity is the same
backwards, so that the grades must stay) and with their frames shuffled (the motion is gone, so that they must not).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from math import nan
from pathlib import Path

import numpy as np
import torch
from attrs import asdict, frozen

from cosmos_core.config.structure import read_resolved
from cosmos_core.data import Chat, Image, Item, Message, Video
from cosmos_core.plan import RunPaths
from cosmos_core.plugin import PluginManager
from cosmos_core.seeds import stream_seed
from cosmos_core.train.load_for_eval import load_for_eval
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource
from cosmos_data_videophy.scoring import rating
from cosmos_vlm.family import VlmFamily

__all__ = ["Figures", "figures", "main"]

BATCH = 50
Reorder = Callable[[int, int], torch.Tensor]
"""Sample and number of frames -> order of the frames."""


@frozen
class Figures:
    """What the demo reports, in the order it is printed.

    mean_absolute_error, rank_correlation: nan when no answer was readable.
    """

    run_dir: str
    train_seconds: float
    accuracy: float
    accuracy_untrained: float
    accuracy_reversed: float
    accuracy_shuffled: float
    mean_absolute_error: float
    rank_correlation: float
    val_loss_first: float
    val_loss_last: float
    samples: str
    loss_curve: str


def accuracy(family: VlmFamily, model: torch.nn.Module, source: VideophySource, order: Reorder) -> float:
    """Share of right ratings when each clip's frames are shown in `order`."""
    right = 0
    for start in range(0, len(source), BATCH):
        items = []
        for index in range(start, min(start + BATCH, len(source))):
            chat = _reordered(source.get(index, np.random.default_rng(0)), index, order)
            items.append(Item(index, family.prepare(chat)))
        answers = family.answers(model, family.collate(items))
        right += sum(rating(answer.prediction) == rating(answer.reference) for answer in answers)
    return right / len(source)


def _reordered(chat: Chat, index: int, order: Reorder) -> Chat:
    def moved(part: str | Image | Video) -> str | Image | Video:
        if not isinstance(part, Video):
            return part
        return Video(part.pixels[:, order(index, part.pixels.shape[1])], part.seconds)

    return Chat(chat.key, tuple(Message(turn.role, tuple(map(moved, turn.content))) for turn in chat.messages))


def _shuffled(index: int, frames: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(stream_seed(0, "shuffled frames", index)).permutation(frames))


def figures(run_dir: Path) -> Figures:
    """Everything the demo reports about a finished run."""
    paths, plugins = RunPaths(run_dir), PluginManager.discover()
    config = read_resolved(paths.config_toml, plugins.registry)
    rows = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    first, *_, last = [row for row in rows if "val_loss" in row]
    family, model = load_for_eval(run_dir, plugins=plugins)
    assert isinstance(family, VlmFamily)
    assert config.dataloader_val is not None
    assert isinstance(config.dataloader_val.dataset, VideophyConfig)
    source = VideophySource(config.dataloader_val.dataset)
    return Figures(
        run_dir=str(run_dir),
        train_seconds=round(json.loads(paths.outcome.read_text())["seconds"], 1),
        accuracy=last["accuracy"],
        accuracy_untrained=first["accuracy"],
        accuracy_reversed=accuracy(family, model, source, lambda index, frames: torch.arange(frames).flip(0)),
        accuracy_shuffled=accuracy(family, model, source, _shuffled),
        mean_absolute_error=round(last.get("mean_absolute_error", nan), 4),
        rank_correlation=round(last.get("rank_correlation", nan), 4),
        val_loss_first=round(first["val_loss"], 4),
        val_loss_last=round(last["val_loss"], 4),
        samples=str(paths.validation(last["step"]) / "confusion.png"),
        loss_curve=str(paths.callback("loss_curve") / "loss_curve.png"),
    )


def main() -> None:
    """Print the figures of the run directory named on the command line, one ``key: value`` a line."""
    for key, value in asdict(figures(Path(sys.argv[1]))).items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
