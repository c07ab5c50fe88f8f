"""Losses over many steps beside a plain loop: ``python -m tests.benchmarks.convergence generator|reasoner``.

``generator``: a Mixture-of-Transformers of 2B's shape as a run trains it (packs, compiled, selective recomputation,
fused kernels, bfloat16), beside diffusers' network, one clip after another under autocast, with torch's AdamW.
``reasoner``: Qwen3-VL-2B's shape beside transformers' model and loss. Same random weights, batches and noise. It ends
with exit code 1 when the smoothed losses differ by more than 1 %. ``--smoke`` runs 20 small steps in float32 on any
machine. Packs are small, as the plain loops launch kernel after kernel for each sample: ``--compile-peer`` compiles
their layers, and ``--layers`` leaves some out, on both sides.

Losses are written as they come, so that a run that is cut loses none. ``--side cosmos`` trains one side alone, such as
each on a card of its own (``CUDA_VISIBLE_DEVICES``); whichever ends last compares. ``--side none`` compares what is
there. ``--seconds`` ends each side after so long; the steps that both made count.
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
from attrs import asdict, frozen

from cosmos_core.distributed import process_group
from cosmos_core.plan import Degrees
from tests.benchmarks.convergence_sides import SIDES, Losses, Settings, generator_sides, reasoner_sides
from tests.benchmarks.timing import GIB, clear, show

__all__ = ["largest_difference", "main", "smoothed"]

BOUND = 0.01
WINDOW = 50
"""Steps of the average that smooths; before so many, smoothed losses are not compared."""
LINES = 20
"""Printed while a side trains."""


@frozen
class Curve:
    """losses: of every step. seconds: of a step, the median. peak: GiB. device: its name."""

    losses: list[float]
    seconds: float
    peak: float
    device: str

    def write(self, path: Path) -> None:
        """As JSON, in place of what was there."""
        partly = path.with_suffix(".partial")
        partly.write_text(json.dumps(asdict(self)), encoding="utf-8")
        partly.replace(path)


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


def _train(name: str, side: Callable[[], Losses], steps: int, limit: float | None, path: Path) -> None:
    """One side's curve into `path`, again and again; its memory is free afterwards. limit: in seconds."""
    clear()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    losses: list[float] = []
    seconds, start = [], time.perf_counter()
    begun = start
    for loss in islice(side(), steps):
        losses.append(float(loss))
        seconds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        over = limit is not None and begun - start > limit
        if len(losses) == 1 or len(losses) % max(1, steps // LINES) == 0 or over:
            passed = f"{begun - start:.0f} s"
            print(f"{name}: step {len(losses)}, loss {smoothed(losses, WINDOW)[-1]:.4f}, {passed}", flush=True)
            peak = torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else 0.0
            Curve(losses, statistics.median(seconds), peak, device).write(path)
        if over:
            break


def _draw(losses: dict[str, list[float]], window: int, title: str, path: Path) -> None:
    """Losses, thin, and smoothed losses, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot(title=title, xlabel="step", ylabel="loss")
    for (name, values), color, style in zip(losses.items(), ("tab:blue", "tab:orange"), ("-", "--"), strict=True):
        axes.plot(values, color=color, linewidth=0.4, alpha=0.4)
        axes.plot(smoothed(values, window), style, color=color, linewidth=1.5, label=name)
    axes.legend()
    axes.grid(visible=True, linewidth=0.3)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train both, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=SIDES)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seconds", type=float, help="after which a side ends")
    parser.add_argument("--side", choices=("both", "cosmos", "peer", "none"), default="both", help="what trains")
    parser.add_argument("--out", type=Path, default=Path("build/convergence"), help="folder for curves and picture")
    parser.add_argument("--layers", type=int, help="of the language model or of both towers; absent: all")
    parser.add_argument("--compile-peer", action="store_true", help="compile the layers of the other side too")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    steps = options.steps or (20 if options.smoke else 500)
    print(f"torch {torch.__version__}", flush=True)
    cosmos, peer = SIDES[options.model]
    names = {"both": (cosmos, peer), "cosmos": (cosmos,), "peer": (peer,), "none": ()}[options.side]
    for name in names:
        _path(options, name).unlink(missing_ok=True)
    if names:
        degrees = Degrees(replicate=1, shard=1, context=1)
        with (
            process_group(degrees, mixed_precision=torch.cuda.is_available()) as mesh,
            tempfile.TemporaryDirectory() as place,
        ):
            settings = Settings(options.smoke, options.layers, options.compile_peer)
            if options.model == "generator":
                sides = generator_sides(mesh, settings)
            else:
                sides = reasoner_sides(mesh, Path(place), settings)
            for name in names:
                _train(name, sides[name], steps, options.seconds, _path(options, name))
    paths = {name: _path(options, name) for name in SIDES[options.model]}
    if missing := [name for name, path in paths.items() if not path.is_file()]:
        print(f"not compared: no losses of {', '.join(missing)} in {options.out}")
        return
    curves = {name: Curve(**json.loads(path.read_text(encoding="utf-8"))) for name, path in paths.items()}
    _report(options, curves)


def _path(options: argparse.Namespace, name: str) -> Path:
    return Path(options.out / f"{options.model}_{name}.json")


def _report(options: argparse.Namespace, curves: dict[str, Curve]) -> None:
    """Table, files, verdict, over the steps that both made."""
    steps = min(len(curve.losses) for curve in curves.values())
    losses = {name: curve.losses[:steps] for name, curve in curves.items()}
    ours, theirs = losses.values()
    window = min(WINDOW, max(1, steps // 4))
    difference = largest_difference(ours, theirs, window)
    rows: list[dict[str, Any]] = [
        {
            "contender": name,
            "steps": len(curve.losses),
            "first loss": curve.losses[0],
            "smoothed loss": smoothed(losses[name], window)[-1],
            "s a step": curve.seconds,
            "peak GiB": curve.peak,
            "device": curve.device,
        }
        for name, curve in curves.items()
    ]
    show(f"convergence of the {options.model}", rows)
    device = rows[0]["device"]
    record = {"model": options.model, "device": device, "torch": torch.__version__, "window": window}
    path = options.out / f"{options.model}.json"
    path.write_text(json.dumps({**record, "largest_difference": difference, "losses": losses}) + "\n", encoding="utf-8")
    _draw(losses, window, f"{options.model}, {device}", path.with_suffix(".svg"))
    peer = SIDES[options.model][1]
    told = f"over {steps} steps smoothed losses differ by at most {100 * difference:.3f} % from those of {peer}"
    print(f"{told}; picture in {options.out}")
    if difference > BOUND:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
