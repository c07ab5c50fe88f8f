"""Reasoner steps beside a transformers loop: ``python -m tests.benchmarks.step_vlm``.

``text``: Qwen3-VL-8B's width with eight layers, 8 documents of 2,000 tokens. ``mixed``: Qwen3-VL-2B in full, a 16k pack
of texts, pictures and clips. Random weights; parity of losses first. ``--smoke``: small numbers, on any machine.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cosmos_core.distributed import Mesh, process_group
from cosmos_core.plan import Degrees
from tests.benchmarks.timing import (
    GIB,
    HARDWARE_TFLOPS,
    alternate,
    clear,
    peak_gib,
    product_tflops,
    profiled,
    show,
    timed,
)
from tests.benchmarks.vlm_case import CASES, Case, tflop, write_backbone
from tests.benchmarks.vlm_ours import Ours
from tests.benchmarks.vlm_transformers import Transformers, micro_batches

__all__ = ["main"]

LOSS_BOUND, NORM_BOUND = 1e-3, 1e-2
WARM_UP = 10
SPLITS = (3, 4, 6)
"""Into how many parts the padded loop's tokens are divided, as tried."""

Step = Callable[[], Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=["text", "mixed"])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    ceiling = product_tflops()
    print(f"device: {device}; torch {torch.__version__}; product {ceiling:.0f} TFLOP/s", flush=True)
    for name in options.cases:
        with tempfile.TemporaryDirectory() as place:
            case = CASES[f"smoke {name}" if options.smoke else name]
            folder = write_backbone(Path(place) / "backbone", case)
            with _mesh("float32") as mesh:
                _parity(case, folder, mesh)
            clear()
            weights = "float32" if case.documents is None else "bfloat16"
            with _mesh(weights) as mesh:
                _measure(case, folder, mesh, weights, options, device)
            clear()
            if case.documents is not None:
                with _mesh("float32") as mesh:
                    _float32(case, folder, mesh, options, device)


def _mesh(weights: str) -> AbstractContextManager[Mesh]:
    """As a run has it: with FSDP's policy where weights are stored in another dtype than they are used in."""
    mixed = torch.cuda.is_available() and weights == "float32"
    return process_group(Degrees(replicate=1, shard=1, context=1), mixed_precision=mixed)


def _measure(case: Case, folder: Path, mesh: Mesh, weights: str, options: argparse.Namespace, device: str) -> None:
    recompute = "selective" if case.documents is None else "none"
    ours = Ours(case, folder, mesh, recompute=recompute, compiled=not options.smoke, master=weights)
    ours_name, losses = f"cosmos, {recompute} recomputation, {weights} weights", []
    steps: dict[str, Step] = {ours_name: _recording(ours.stepper(), losses)}
    peaks = {ours_name: _warm(steps[ours_name])}
    print(f"{ours_name}: {min(timed(steps[ours_name], 5)):.3f} s, {peaks[ours_name]:.1f} GiB", flush=True)
    if options.profile:
        profiled(steps[ours_name], f"{case.name} pack")
    clear()
    allocated = _allocated()
    print(f"allocated beside the peer: {allocated:.1f} GiB", flush=True)
    peer = Transformers(ours)
    dialogs = ours.dialogs(0)
    if not options.smoke:
        peer.compile()
    steps |= _texts(peer, dialogs) if case.documents is not None else _padded(peer, dialogs)
    for name in [name for name in steps if name != ours_name]:
        peaks[name] = _warm(steps[name]) - allocated
    _rows(ours, dialogs, alternate(steps, options.steps), peaks, ours_name, device)
    show("losses on the repeated pack", [{"steps": len(losses), "first": losses[0], "last": losses[-1]}])


def _recording(step: Step, losses: list[float]) -> Step:
    def run() -> None:
        losses.extend(value for name, value in step().items() if name == "loss")

    return run


def _float32(case: Case, folder: Path, mesh: Mesh, options: argparse.Namespace, device: str) -> None:
    """Float32 weights and moments, as a run has them by default; they do not fit beside the peer."""
    ours = Ours(case, folder, mesh, recompute="none", compiled=not options.smoke)
    name, step = "cosmos, none recomputation, float32 weights", ours.stepper()
    peaks = {name: _warm(step)}
    _rows(ours, ours.dialogs(0), alternate({name: step}, options.steps), peaks, name, device)


def _parity(case: Case, folder: Path, mesh: Mesh) -> None:
    """Raises SystemExit when losses or gradient norms disagree."""
    ours = Ours(case, folder, mesh, recompute="full", compiled=False)
    peer = Transformers(ours)
    pairs = [
        (ours.loss_and_norm(step), peer.loss_and_norm(micro_batches(ours.dialogs(step), max(SPLITS))))
        for step in range(5)
    ]
    loss, norm = (max(abs(a[i] - b[i]) / abs(b[i]) for a, b in pairs) for i in (0, 1))
    if loss > LOSS_BOUND or norm > NORM_BOUND:
        raise SystemExit(f"{case.name}: losses differ by {loss:.2e}, gradient norms by {norm:.2e}; nothing was timed")
    show("parity, relative", [{"pack": case.name, "loss": loss, "gradient norm": norm}])


def _texts(peer: Transformers, dialogs: list[Any]) -> dict[str, Step]:
    """Documents of one length in two batches, so that their logits fit; with compiled layers and with plain ones."""
    half = len(dialogs) // 2
    step = peer.stepper([dialogs[:half], dialogs[half:]])
    return {
        f"transformers, {name}, 2 batches": partial(peer.with_compiled, step, on=on)
        for name, on in (("eager", False), ("compiled layers", True))
    }


def _padded(peer: Transformers, dialogs: list[Any]) -> dict[str, Step]:
    """The padded loop in the number of micro-batches that is fastest, and one dialog at a time."""
    tried: dict[int, tuple[float, Step]] = {}
    for count in SPLITS:
        groups = micro_batches(dialogs, count)
        step = peer.stepper(groups)
        try:
            timed(step, 3)
            tried[len(groups)] = min(timed(step, 3)), step
        except torch.OutOfMemoryError as error:
            print(f"transformers, {len(groups)} padded micro-batches: {str(error).splitlines()[0]}", flush=True)
            peer.optimizer.zero_grad(set_to_none=True)
        clear()
    print({f"{count} padded micro-batches": f"{seconds:.3f} s" for count, (seconds, _) in tried.items()}, flush=True)
    steps = {"transformers, one at a time": peer.stepper([[dialog] for dialog in dialogs])}
    if tried:
        best = min(tried, key=lambda count: tried[count][0])
        steps[f"transformers, {best} padded micro-batches"] = tried[best][1]
    return steps


def _warm(step: Step) -> float:
    """Peak memory of a warm step."""
    timed(step, WARM_UP)
    return peak_gib(step)


def _allocated() -> float:
    return torch.cuda.memory_allocated() / GIB if torch.cuda.is_available() else 0.0


def _rows(
    ours: Ours,
    dialogs: list[Any],
    times: dict[str, dict[str, float]],
    peaks: dict[str, float],
    ours_name: str,
    device: str,
) -> None:
    case, architecture = ours.case, ours.family.architecture
    language, tower = tflop(case, architecture, dialogs)
    tokens = sum(len(dialog.ids) for dialog in dialogs)
    show(
        f"reasoner step, {case.name} pack: {len(dialogs)} dialogs, {tokens} tokens",
        [
            {
                "contender": who,
                "ms": figures["ms"],
                "p90 ms": figures["p90"],
                "content tokens/s": 1e3 * tokens / figures["ms"],
                "TFLOP, language": language,
                "TFLOP, tower": tower,
                "MFU %": 1e5 * (language + tower) / figures["ms"] / HARDWARE_TFLOPS,
                "peak GiB": peaks[who],
                "times cosmos": figures["ms"] / times[ours_name]["ms"],
                "device": device,
            }
            for who, figures in times.items()
        ],
    )


if __name__ == "__main__":
    main()
