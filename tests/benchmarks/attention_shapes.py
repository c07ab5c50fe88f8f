"""Cost of attention when sequence lengths change: ``python -m tests.benchmarks.attention_shapes``.

Captions and dialogs of a run have ever new lengths. For each kernel: the first call at a length (the kernel may build a
plan), the same call again, and all sequences of a batch, each forward and backward. ``--smoke`` runs on any machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from cosmos_core.attention import PackedSequences, packed_attention
from tests.benchmarks.timing import show, synchronise

__all__ = ["main"]

HEADS, KV_HEADS, DIM = 32, 8, 128
KERNELS = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
PACKS = {
    "dialogs": [80, 95, 110, 130, 260, 290, 460, 500, 620, 640, 980, 1020, 1700, 2900],
    "captions": [1003 + 17 * index for index in range(17)],
    "long": [2101, 3207, 4513, 6029],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"device: {torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}; torch {torch.__version__}")
    kernels = KERNELS if device.type == "cuda" else {"math": SDPBackend.MATH}
    for name, lengths in PACKS.items():
        sizes = [length // 16 for length in lengths] if smoke else lengths
        rows = [_one_by_one(kernel, sdpa_kernel(backend), sizes, device) for kernel, backend in kernels.items()]
        rows.append(_packed(sizes, device))
        show(f"{name}: {len(sizes)} sequences, {sum(sizes)} tokens, causal", rows)


def _one_by_one(
    name: str, kernel: AbstractContextManager[Any], lengths: list[int], device: torch.device
) -> dict[str, Any]:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        rows = (x.transpose(0, 1)[None] for x in (q, k, v))
        return scaled_dot_product_attention(*rows, is_causal=True, enable_gqa=True)  # type: ignore[misc]

    with kernel:
        first = [_timed(attend, [length], device) for length in lengths]
        again = [_timed(attend, [length], device) for length in lengths]
    return {
        "kernel": f"{name}, one by one",
        "first call ms": statistics.median(first),
        "again ms": statistics.median(again),
        "whole pack ms": sum(again),
    }


def _packed(lengths: list[int], device: torch.device) -> dict[str, Any]:
    sequences = PackedSequences(tuple(lengths), device)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return packed_attention(q, k, v, sequences, causal=True)

    first = _timed(attend, lengths, device)
    again = statistics.median(_timed(attend, lengths, device) for _ in range(10))
    return {"kernel": "packed", "first call ms": first, "again ms": "", "whole pack ms": again}


def _timed(attend: Callable[..., torch.Tensor], lengths: list[int], device: torch.device) -> float:
    """Milliseconds of one forward and backward pass."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    q, k, v = (
        torch.randn(sum(lengths), heads, DIM, device=device, dtype=dtype, requires_grad=True)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )
    synchronise()
    begun = time.perf_counter()
    attend(q, k, v).sum().backward()
    synchronise()
    return 1e3 * (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
