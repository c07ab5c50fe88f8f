"""Losses over many steps beside a plain loop: ``python -m tests.benchmarks.convergence generator|reasoner``.

``generator``: a Mixture-of-Transformers of 2B's shape as a run trains it (packs, compiled, selective recomputation,
fused kernels, bfloat16), beside diffusers' network, one clip after another under autocast, with torch's AdamW.
``reasoner``: Qwen3-VL-2B's shape beside transformers' model and loss. Same random weights, batches and noise. It ends
with exit code 1 when the smoothed losses differ by more than 1 %. ``--smoke`` runs 20 small steps in float32 on any
machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from cosmos_core.distributed import process_group
from cosmos_core.plan import Degrees
from tests.benchmarks.convergence_sides import Losses, generator_sides, reasoner_sides
from tests.benchmarks.timing import GIB, clear, show

__all__ = ["largest_difference", "main", "smoothed"]

BOUND = 0.01
WINDOW = 50
"""Steps of the average that smooths; before so many, smoothed losses are not compared."""
LINES = 20
"""Printed while a side trains."""


@frozen
class Curve:
    """losses: of every step. seconds: of a step, the median. peak: GiB."""

    losses: list[float]
    seconds: float
    peak: float


def smoothed(losses: Sequence[float], window: int) -> list[float]:
    """An exponential average over about `window` steps, without the bias of its start."""
    keep, total, weight, means = 1 - 1 / window, 0.0, 0.0, []
    for loss in losses:
        total, weight = keep * total + loss, keep * weight + 1
        means.append(total / weight)
    return means


def largest_difference(ours: Sequence[float], theirs: Sequence[float], window: int) -> float:
    """Relative, of smoothed losses, once there are as many as the window; infinite if any is not a number."""
    pairs = list(zip(smoothed(ours, window), smoothed(theirs, window), strict=True))[window - 1 :]
    differences = [abs(a - b) / abs(b) for a, b in pairs]
    return max(differences) if all(value == value for value in differences) else float("inf")


def _train(name: str, side: Callable[[], Losses], steps: int) -> Curve:
    """The curve of one side; its memory is free afterwards."""
    clear()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    losses, seconds, begun = [], [], time.perf_counter()
    for loss in islice(side(), steps):
        losses.append(float(loss))
        seconds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        if len(losses) % max(1, steps // LINES) == 0:
            print(f"{name}: step {len(losses)}, loss {smoothed(losses, WINDOW)[-1]:.4f}", flush=True)
    peak = torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else 0.0
    return Curve(losses, statistics.median(seconds), peak)


def _draw(curves: dict[str, Curve], window: int, title: str, path: Path) -> None:
    """Losses, thin, and smoothed losses, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot(title=title, xlabel="step", ylabel="loss")
    for (name, curve), color, style in zip(curves.items(), ("tab:blue", "tab:orange"), ("-", "--"), strict=True):
        axes.plot(curve.losses, color=color, linewidth=0.4, alpha=0.4)
        axes.plot(smoothed(curve.losses, window), style, color=color, linewidth=1.5, label=name)
    axes.legend()
    axes.grid(visible=True, linewidth=0.3)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train both, compare, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=("generator", "reasoner"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, default=Path("build/convergence"), help="folder for curves and picture")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    steps = options.steps or (20 if options.smoke else 500)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"device: {card}; torch {torch.__version__}", flush=True)
    degrees = Degrees(replicate=1, shard=1, context=1)
    with (
        process_group(degrees, mixed_precision=torch.cuda.is_available()) as mesh,
        tempfile.TemporaryDirectory() as place,
    ):
        if options.model == "generator":
            sides = generator_sides(mesh, smoke=options.smoke)
        else:
            sides = reasoner_sides(mesh, Path(place), smoke=options.smoke)
        curves = {name: _train(name, side, steps) for name, side in sides.items()}
    _report(options, curves, card)


def _report(options: argparse.Namespace, curves: dict[str, Curve], card: str) -> None:
    """Table, files, verdict."""
    (_, ours), (peer, theirs) = curves.items()
    window = min(WINDOW, max(1, len(ours.losses) // 4))
    difference = largest_difference(ours.losses, theirs.losses, window)
    rows: list[dict[str, Any]] = [
        {
            "contender": name,
            "steps": len(curve.losses),
            "first loss": curve.losses[0],
            "smoothed loss": smoothed(curve.losses, window)[-1],
            "s a step": curve.seconds,
            "peak GiB": curve.peak,
            "device": card,
        }
        for name, curve in curves.items()
    ]
    show(f"convergence of the {options.model}", rows)
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"model": options.model, "device": card, "torch": torch.__version__, "window": window}
    losses = {name: curve.losses for name, curve in curves.items()}
    path = options.out / f"{options.model}.json"
    path.write_text(json.dumps({**record, "largest_difference": difference, "losses": losses}) + "\n", encoding="utf-8")
    _draw(curves, window, f"{options.model}, {card}", path.with_suffix(".svg"))
    print(f"smoothed losses differ by at most {100 * difference:.3f} % from those of {peer}; picture in {options.out}")
    if difference > BOUND:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
