"""Every attention kernel of this device beside the formula, softmax(QK^T / sqrt(dim)) V in float32, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from attrs import frozen
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from cosmos_core.attention import (
    PackedSequences,
    SequenceMask,
    attention_with_lse,
    dense_attention,
    merge_attentions,
    packed_attention,
    sdpa_backends,
)
from cosmos_core.doctor.check import Check, DoctorOptions, Result
from cosmos_core.doctor.compare import Comparison, attention_formula, compare

__all__ = ["Case", "Kernel", "check_kernel", "checks", "kernels"]

EQUAL, UNEQUAL = (192, 192), (5, 150, 64, 201)
HEADS, KV_HEADS, DIM = 4, 2, 128
COMPILED = 300.0
"""Seconds for a kernel that is compiled first."""

NAMES = {
    SDPBackend.CUDNN_ATTENTION: "cuDNN",
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "memory-efficient",
    SDPBackend.MATH: "math",
}


@frozen
class Case:
    """lengths: of the sequences in the pack. kv_heads: fewer than heads means grouped queries."""

    lengths: tuple[int, ...]
    kv_heads: int
    causal: bool

    @property
    def name(self) -> str:
        """For people."""
        return ("causal" if self.causal else "full") + (" GQA" if self.kv_heads < HEADS else "")


@frozen
class Kernel:
    """attend: (q [N, heads, dim], k, v [N, kv heads, dim], case=Case) -> [N, heads, dim].

    lengths: of the sequences to try. causal: whether it has causal attention, full attention, or both.
    """

    name: str
    attend: Callable[..., torch.Tensor]
    lengths: tuple[int, ...]
    causal: tuple[bool, ...] = (False, True)
    compiled: bool = False

    @property
    def cases(self) -> list[Case]:
        """Each kind of attention, with as many key-value heads and with fewer."""
        return [Case(self.lengths, count, causal) for causal in self.causal for count in (HEADS, KV_HEADS)]


def checks(options: DoctorOptions) -> Iterator[Check]:
    """Every kernel in every dtype it takes, on the first device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtypes = (
        [torch.bfloat16, torch.float16, torch.float32] if device.type == "cuda" else [torch.bfloat16, torch.float32]
    )
    for kernel in kernels(device):
        for dtype in dtypes:
            name = f"{kernel.name}, {str(dtype).removeprefix('torch.')}"
            if kernel.compiled and options.quick:
                yield Check(name, partial(Result, status="skipped", message="left out by --quick"))
            else:
                run = partial(check_kernel, kernel, device, dtype)
                yield Check(name, run, COMPILED if kernel.compiled else 60.0)


def kernels(device: torch.device) -> list[Kernel]:
    """What `cosmos_core.attention` can choose on a device: each of torch's kernels alone, then its own functions."""
    compiled = device.type == "cuda"
    return [
        *(Kernel(NAMES[backend], partial(_one_backend, backend), EQUAL) for backend in sdpa_backends(device)),
        Kernel("padding mask", _padded, UNEQUAL, causal=(False,)),
        Kernel("packed, equal lengths", _packed, EQUAL),
        Kernel("packed, unequal lengths", _packed, UNEQUAL),
        Kernel("sequence mask", _masked, UNEQUAL, causal=(False,), compiled=compiled),
        Kernel("two merged parts", _merged, EQUAL[:1], causal=(False,), compiled=compiled),
    ]


def check_kernel(kernel: Kernel, device: torch.device, dtype: torch.dtype) -> Result:
    """Output and gradients in every case; the largest error counts."""
    if kernel.compiled:
        # Or graphs of other kernels and dtypes count, and beyond torch's limit a kernel would run uncompiled.
        torch.compiler.reset()
    comparisons: dict[str, Comparison] = {}
    for case in kernel.cases:
        generator = torch.Generator().manual_seed(sum(case.lengths))
        shapes = [(sum(case.lengths), heads, DIM) for heads in (HEADS, case.kv_heads, case.kv_heads)]
        inputs = [torch.randn(*shape, generator=generator).to(device, dtype) for shape in shapes]
        try:
            comparison = compare(partial(kernel.attend, case=case), partial(_formula, case=case), inputs)
        except RuntimeError as error:
            if "No available kernel" not in str(error):  # what torch says of a dtype or a shape that a kernel lacks
                raise
            continue
        comparisons[case.name] = comparison
    if not comparisons:
        return Result(status="skipped", message="torch has no such kernel for this device and dtype")
    name, worst = max(comparisons.items(), key=lambda item: item[1].severity)
    return worst.result(
        ", ".join(comparisons),
        hint=f"wrong in: {name}. Runs that use it learn wrongly: update the driver and torch, or use another GPU",
    )


def _formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, case: Case) -> torch.Tensor:
    parts = zip(*(x.split(case.lengths) for x in (q, k, v)), strict=True)
    return torch.cat([attention_formula(*part, causal=case.causal) for part in parts])


def _one_backend(backend: SDPBackend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, case: Case) -> torch.Tensor:
    sequences = PackedSequences(case.lengths, q.device)
    q, k, v = (sequences.pad(x) for x in (q, k, v))
    with sdpa_kernel(backend):
        batch = scaled_dot_product_attention(q, k, v, is_causal=case.causal, enable_gqa=case.kv_heads < HEADS)
    return sequences.unpad(batch)


def _padded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, case: Case) -> torch.Tensor:
    sequences = PackedSequences(case.lengths, q.device)
    mask = sequences.padding_mask[:, None, None]
    return sequences.unpad(dense_attention(*(sequences.pad(x) for x in (q, k, v)), attn_mask=mask))


def _packed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, case: Case) -> torch.Tensor:
    return packed_attention(q, k, v, PackedSequences(case.lengths, q.device), causal=case.causal)


def _masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, case: Case) -> torch.Tensor:
    sequence_ids = PackedSequences(case.lengths, q.device).sequence_ids
    return SequenceMask(sequence_ids, sequence_ids).attend(q, k, v)


def _merged(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, case: Case) -> torch.Tensor:
    first = len(k) // 3
    parts = [attention_with_lse(q, *part) for part in ((k[:first], v[:first]), (k[first:], v[first:]))]
    return merge_attentions(*parts)
