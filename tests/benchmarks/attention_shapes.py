"""Cost of attention when sequence lengths change: ``python -m tests.benchmarks.attention_shapes``.

Captions and dialogs of a run have ever new lengths. For each kernel: the first call at a length (the kernel may build a
plan), the same call again, and all sequences of a pack, each forward and backward: one by one, and together by kernels
that know where each begins. ``--smoke`` runs on any machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from attrs import frozen
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from cosmos_core.attention import PackedSequences
from cosmos_core.attention.kernels import has_ragged_attention, has_varlen_attention, varlen_attention
from cosmos_core.attention.ragged import ragged_attention
from tests.benchmarks.timing import show, synchronise

__all__ = ["main"]

HEADS, KV_HEADS, DIM = 32, 8, 128
KERNELS = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


@frozen
class Pack:
    """queries, keys: tokens of each sequence; the same where attention is causal."""

    queries: list[int]
    keys: list[int]

    @property
    def causal(self) -> bool:
        """Of text, and of dialogs; latents attend to all of theirs and of their text."""
        return self.queries == self.keys


def _of(queries: list[int], text: list[int] | None = None) -> Pack:
    return Pack(queries, queries if text is None else [own + other for own, other in zip(queries, text, strict=True)])


PACKS = {
    "dialogs": _of([80, 95, 110, 130, 260, 290, 460, 500, 620, 640, 980, 1020, 1700, 2900]),
    "captions": _of([1003 + 17 * index for index in range(17)]),
    "long": _of([2101, 3207, 4513, 6029]),
    "clips": _of([1440] * 20, [553 + 19 * index for index in range(20)]),
    "larger clips": _of([3600] * 11, [257 + 23 * index for index in range(11)]),
    "short clips": _of([720] * 48, [61 + 5 * index for index in range(48)]),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"device: {torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}; torch {torch.__version__}")
    kernels = KERNELS if device.type == "cuda" else {"math": SDPBackend.MATH}
    for name, pack in PACKS.items():
        sizes = Pack([x // 16 for x in pack.queries], [x // 16 for x in pack.keys]) if smoke else pack
        rows = [_one_by_one(kernel, sdpa_kernel(backend), sizes, device) for kernel, backend in kernels.items()]
        rows += _together(sizes, device)
        kind = "causal" if sizes.causal else "full"
        show(f"{name}: {len(sizes.queries)} sequences, {sum(sizes.queries)} queries, {kind}", rows)


def _one_by_one(name: str, kernel: AbstractContextManager[Any], pack: Pack, device: torch.device) -> dict[str, Any]:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        rows = (x.transpose(0, 1)[None] for x in (q, k, v))
        return scaled_dot_product_attention(*rows, is_causal=pack.causal, enable_gqa=True)  # type: ignore[misc]

    pairs = list(zip(pack.queries, pack.keys, strict=True))
    with kernel:
        first = [_timed(attend, *pair, device) for pair in pairs]
        again = [_timed(attend, *pair, device) for pair in pairs]
    return {
        "kernel": f"{name}, one by one",
        "first call ms": statistics.median(first),
        "again ms": statistics.median(again),
        "whole pack ms": sum(again),
    }


def _together(pack: Pack, device: torch.device) -> Iterator[dict[str, Any]]:
    """Kernels that know where each sequence begins, as far as they are here."""
    queries, keys = (PackedSequences(tuple(lengths), device) for lengths in (pack.queries, pack.keys))
    q, k, _ = _inputs(1, 1, device)
    kernels = {"varlen": (has_varlen_attention(q), varlen_attention)}
    kernels["cuDNN"] = (has_ragged_attention(q, k), ragged_attention)
    for name, (is_here, kernel) in kernels.items():
        if is_here:
            attend = partial(kernel, queries=queries, keys=keys, causal=pack.causal)
            sizes = sum(pack.queries), sum(pack.keys)
            first = _timed(attend, *sizes, device)
            again = statistics.median(_timed(attend, *sizes, device) for _ in range(10))
            yield {"kernel": f"{name}, packed", "first call ms": first, "again ms": "", "whole pack ms": again}


def _inputs(queries: int, keys: int, device: torch.device) -> list[torch.Tensor]:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shapes = (queries, HEADS), (keys, KV_HEADS), (keys, KV_HEADS)
    return [torch.randn(*shape, DIM, device=device, dtype=dtype, requires_grad=True) for shape in shapes]


def _timed(attend: Callable[..., torch.Tensor], queries: int, keys: int, device: torch.device) -> float:
    """Milliseconds of one forward and backward pass."""
    q, k, v = _inputs(queries, keys, device)
    synchronise()
    begun = time.perf_counter()
    attend(q, k, v).sum().backward()
    synchronise()
    return 1e3 * (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
