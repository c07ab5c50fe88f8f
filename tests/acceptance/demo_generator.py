"""Measures what the generator demo learned and prints it: ``python -m tests.acceptance.demo_generator RUN_DIR``.

For each of the 40 attribute sets that training never saw, one clip is generated from its caption, once with the trained
weights (moving average) and once with the weights training started from. The judge reads colour and direction off the
pixels; the share that agrees with the caption is the accuracy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from attrs import asdict, frozen

from cosmos_core.config.structure import read_resolved
from cosmos_core.plan import RunPaths
from cosmos_core.plugin import PluginManager
from cosmos_core.train.load_for_eval import load_for_eval
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.dataset import BridgeSource
from cosmos_data_bridge.synthetic import Attributes, attributes_of
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.sampling import SampleRequest
from tests.acceptance.judge import judge

__all__ = ["Figures", "Score", "figures", "main"]

SEED = 1234
STEPS = 20
GUIDANCE = 3.0
SHIFT = 3.0


@frozen
class Score:
    """Shares of the generated clips that agree with their captions; own_hue: mean share of the winning hue."""

    colour: float
    direction: float
    own_hue: float


@frozen
class Figures:
    """What the demo reports, in the order it is printed."""

    run_dir: str
    train_seconds: float
    colour_accuracy: float
    colour_accuracy_untrained: float
    direction_accuracy: float
    val_loss_first: float
    val_loss_last: float
    samples: str
    loss_curve: str
    page: str


def held_out(source: BridgeSource) -> list[tuple[Attributes, SampleRequest]]:
    """One request for each attribute set of the validation split, in source order."""
    found: dict[Attributes, SampleRequest] = {}
    for index in range(len(source)):
        sample = source.get(index, np.random.default_rng(0))
        _, frames, height, width = sample.video.shape
        request = SampleRequest(caption=sample.caption, frames=frames, height=height, width=width, fps=sample.fps)
        found.setdefault(attributes_of(sample.caption), request)
    return list(found.items())


def score(run_dir: Path, weights: str) -> Score:
    """Generate and judge one clip per held-out attribute set."""
    plugins = PluginManager.discover()
    family, model = load_for_eval(run_dir, plugins=plugins, weights=weights)
    config = read_resolved(RunPaths(run_dir).config_toml, plugins.registry)
    assert config.dataloader_val is not None
    assert isinstance(family, VfmFamily)
    assert isinstance(config.dataloader_val.dataset, BridgeConfig)
    wanted = held_out(BridgeSource(config.dataloader_val.dataset))
    with torch.no_grad():
        videos = family.sample(
            model, [request for _, request in wanted], seed=SEED, steps=STEPS, guidance=GUIDANCE, shift=SHIFT
        )
    verdicts = [judge(video.permute(1, 2, 3, 0).cpu().numpy()) for video in videos]
    pairs = list(zip(verdicts, (attributes for attributes, _ in wanted), strict=True))
    return Score(
        colour=float(np.mean([verdict.colour == attributes.color for verdict, attributes in pairs])),
        direction=float(np.mean([verdict.direction == attributes.direction for verdict, attributes in pairs])),
        own_hue=float(np.mean([verdict.own_hue for verdict in verdicts])),
    )


def figures(run_dir: Path) -> Figures:
    """Everything the demo reports about a finished run."""
    paths = RunPaths(run_dir)
    rows = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    losses = [row["val_loss"] for row in rows if "val_loss" in row]
    trained, untrained = score(run_dir, "ema"), score(run_dir, "fresh")
    return Figures(
        run_dir=str(run_dir),
        train_seconds=round(json.loads(paths.outcome.read_text())["seconds"], 1),
        colour_accuracy=trained.colour,
        colour_accuracy_untrained=untrained.colour,
        direction_accuracy=trained.direction,
        val_loss_first=round(losses[0], 4),
        val_loss_last=round(losses[-1], 4),
        samples=str(paths.callback("EveryNDrawSample") / "comparison.png"),
        loss_curve=str(paths.callback("loss_curve") / "loss_curve.png"),
        page=str(paths.callback("EveryNDrawSample") / "index.html"),
    )


def main() -> None:
    """Print the figures of the run directory named on the command line, one ``key: value`` a line, the page last."""
    for key, value in asdict(figures(Path(sys.argv[1]))).items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
