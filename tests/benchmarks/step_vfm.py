"""Generator steps compared with compiled diffusers: ``python -m tests.benchmarks.step_vfm``.

Nano's width with eight layers, random weights, latents supplied. Losses are compared first; if they differ, nothing is
timed. ``--smoke`` runs the same code with small sizes on any machine. ``--profile`` adds a profile.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from attrs import evolve

from cosmos_core.distributed import Mesh, process_group
from cosmos_core.plan import Degrees
from cosmos_vfm.sizes import MODEL_SIZES, NetworkConfig
from tests.benchmarks.timing import GIB, HARDWARE_TFLOPS, alternate, clear, peak_gib, product_tflops, profiled, show
from tests.benchmarks.vfm_case import CASES, Case
from tests.benchmarks.vfm_diffusers import Diffusers
from tests.benchmarks.vfm_ours import Ours

__all__ = ["main", "parity"]

LOSS_BOUND, NORM_BOUND = 1e-3, 1e-2
WARM_UP = 10


def parity(ours: Ours, peer: Diffusers, case: Case) -> dict[str, Any]:
    """Largest relative difference of five losses and gradient norms. Raises SystemExit when it is too large."""
    pairs = [(ours.loss_and_norm(case, step), peer.loss_and_norm(case, step)) for step in range(5)]
    loss, norm = (max(abs(a[i] - b[i]) / abs(b[i]) for a, b in pairs) for i in (0, 1))
    if loss > LOSS_BOUND or norm > NORM_BOUND:
        raise SystemExit(f"{case.name}: losses differ by {loss:.2e}, gradient norms by {norm:.2e}; nothing was timed")
    return {"pack": case.name, "loss": loss, "gradient norm": norm}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--packs", nargs="+", default=["256p", "720p"])
    parser.add_argument("--recompute", nargs="+", default=["none", "selective"])
    options = parser.parse_args()
    network, packs = evolve(MODEL_SIZES["nano"], layers=8), options.packs
    if options.smoke:
        network, packs = evolve(MODEL_SIZES["tiny"], heads=4, kv_heads=2, head_dim=128, layers=2), ["smoke"]
    with process_group(Degrees(replicate=1, shard=1, context=1), mixed_precision=torch.cuda.is_available()) as mesh:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        ceiling = product_tflops()
        print(f"device: {device}; torch {torch.__version__}; product {ceiling:.0f} TFLOP/s", flush=True)
        for name in packs:
            _pack(network, CASES[name], mesh, options, device, ceiling)


def _pack(
    network: NetworkConfig, case: Case, mesh: Mesh, options: argparse.Namespace, device: str, ceiling: float
) -> None:
    show("parity, relative", [_parity(network, case, mesh)])
    for recompute in options.recompute:
        clear()
        ours = Ours(network, mesh, recompute=recompute, compiled=not options.smoke)
        step, begun = ours.stepper(case), time.perf_counter()
        step()
        first = time.perf_counter() - begun
        for _ in range(WARM_UP):
            step()
        memory = peak_gib(step)
        cosmos_memory = _allocated()
        peer = Diffusers(ours, compiled=not options.smoke)
        other = peer.stepper(case)
        for _ in range(WARM_UP):
            other()
        peaks = {"cosmos": memory, "diffusers": peak_gib(other) - cosmos_memory}
        times = alternate({"cosmos": step, "diffusers": other}, options.steps)
        total = case.tflop(network)
        show(
            f"generator step, {case.name} pack",
            [
                {
                    "contender": f"{who}, recompute {recompute if who == 'cosmos' else 'full'}",
                    "ms": figures["ms"],
                    "p90 ms": figures["p90"],
                    "TFLOP": total,
                    "MFU %": 1e5 * total / figures["ms"] / HARDWARE_TFLOPS,
                    "% of product": 1e5 * total / figures["ms"] / ceiling if ceiling else 0.0,
                    "peak GiB": peaks[who],
                    "times diffusers": times["diffusers"]["ms"] / figures["ms"],
                    "first step s": first if who == "cosmos" else "",
                    "device": device,
                }
                for who, figures in times.items()
            ],
        )
        if options.profile and recompute == options.recompute[0]:
            profiled(step, f"{case.name} pack")


def _parity(network: NetworkConfig, case: Case, mesh: Mesh) -> dict[str, Any]:
    fresh = Ours(network, mesh, recompute="full", compiled=False)
    return parity(fresh, Diffusers(fresh, compiled=False), case)


def _allocated() -> float:
    return torch.cuda.memory_allocated() / GIB if torch.cuda.is_available() else 0.0


if __name__ == "__main__":
    main()
