"""Which kernel computes attention, by device, dtype and shape.

| what | CUDA | CPU |
|---|---|---|
| packs in 16 bits, from Hopper on | cuDNN in one call, where nvidia-cudnn-frontend is installed | |
| batches, other packs of lengths that come again or are very long | cuDNN from Hopper on, else Flash | torch's kernel |
| other packs in 16 bits, from Ampere on | varlen | |
| other packs | batches, or sequence by sequence, through Flash | the same through torch's kernel |
| a mask that keeps sequences apart | FlexAttention, compiled | torch's kernel under a dense mask |

Where operators must be deterministic, cuDNN is left out; the backward passes of the others then keep an order.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from cosmos_core.attention.packed import PackedSequences
from cosmos_core.attention.ragged import CUDNN_FRONTEND, RaggedHeads, has_cudnn_frontend, ragged_attention

__all__ = [
    "SequenceMask",
    "compiled_flex_attention",
    "dense_attention",
    "describe_kernels",
    "faster_with",
    "has_ragged_attention",
    "has_varlen_attention",
    "packed_attention",
    "sdpa_backends",
    "varlen_attention",
]

_AMPERE = (8, 0)
_HOPPER = (9, 0)
_WIDEST = 256
_SHORT = 512
"""Most tokens of a sequence that is padded into a batch, which costs less than a launch for each."""
_LONG = 10**8
"""Queries times keys, from which on what cuDNN saves in the layers of one step is more than its plan takes."""
_FLASH = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
_CPU = [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]


def dense_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    """scaled_dot_product_attention over [batch, heads, tokens, dim] with as many key-value heads, or fewer.

    For shapes that come again: kernels may plan for each.
    """
    with _fastest_kernel(q.device, shapes_recur=True):
        return scaled_dot_product_attention(q, k, v, enable_gqa=True, **options)


def packed_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sequences: PackedSequences,
    *,
    causal: bool,
    keys: PackedSequences | None = None,
) -> torch.Tensor:
    """Attend from q [N, heads, dim] to k and v [M, kv heads, dim]; returns [N, heads, dim], each sequence by itself.

    keys: how k and v divide, where not as q does; each sequence attends to the one in the same place, never causally.

    One kernel that knows where each sequence begins computes all of them, or batches: those of one length together, or,
    if attention is causal, those of like lengths, padded.
    """
    if causal and keys is not None:
        # Kernels do not agree on which of the keys comes last for a query.
        raise ValueError("causal attention is to keys that divide as the queries do")
    if has_ragged_attention(q, k):
        return ragged_attention(q, k, v, sequences, keys or sequences, causal=causal)
    planned = _pays_to_plan(sequences, keys or sequences, q.device)
    if has_varlen_attention(q) and not planned:
        return varlen_attention(q, k, v, sequences, keys or sequences, causal=causal)
    with _fastest_kernel(q.device, shapes_recur=planned):
        if keys is not None:
            return _attention_to_others(q, k, v, sequences, keys)
        padded = sequences.buckets if causal else sequences.by_length
        batches = zip(*(padded.pad(x) for x in (q, k, v)), strict=True)
        # Not every kernel takes the option, even where numbers of heads are equal.
        grouped = q.shape[1] != k.shape[1]
        return padded.unpad(
            [
                scaled_dot_product_attention(*batch, is_causal=causal, enable_gqa=grouped)  # type: ignore[misc]
                for batch in batches
            ]
        )


def has_ragged_attention(q: torch.Tensor, k: torch.Tensor) -> bool:
    """Whether `ragged_attention` takes queries [N, heads, dim] and keys [M, kv heads, dim], and is the fastest here.

    On one H100 it takes 0.5 to 0.95 of the time of cuDNN's kernel sequence by sequence, which plans for each length
    besides, and 0.63 to 0.72 of that of `varlen_attention` (tests/benchmarks/RESULTS.md).
    """
    return _prefers_cudnn(q.device) and RaggedHeads.of(q, k).supported


def has_varlen_attention(q: torch.Tensor) -> bool:
    """Whether `varlen_attention` takes queries [N, heads, dim] of this device, dtype and dim."""
    fits = q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= _WIDEST
    return fits and q.device.type == "cuda" and _has_varlen_kernel(q.device)


def varlen_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, queries: PackedSequences, keys: PackedSequences, *, causal: bool
) -> torch.Tensor:
    """As `packed_attention`, in one kernel without padding, where `has_varlen_attention`.

    On one H100 1.3 to 1.6 times as fast as padded batches of like lengths, but slower than cuDNN's kernel where all
    lengths are equal (tests/benchmarks/RESULTS.md).
    """
    begins, longest = (queries.cu_seqlens, keys.cu_seqlens), (queries.max_seqlen, keys.max_seqlen)
    window = (-1, 0) if causal else (-1, -1)
    mixed: torch.Tensor = _varlen_kernel()(q, k, v, *begins, *longest, window_size=window)
    return mixed


def _pays_to_plan(queries: PackedSequences, keys: PackedSequences, device: torch.device) -> bool:
    """Whether shapes come again, many sequences of one length by design, or cuDNN saves as much as its plan takes."""
    if queries.uniform and keys.uniform and len(queries.lengths) > 1:
        return True
    return _prefers_cudnn(device) and queries.max_seqlen * keys.max_seqlen >= _LONG


def _attention_to_others(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, queries: PackedSequences, keys: PackedSequences
) -> torch.Tensor:
    """Full attention to keys that divide in another way: one batch if they are short or all alike, else one by one."""
    if keys.max_seqlen <= _SHORT or (queries.uniform and keys.uniform):
        mask = None if keys.uniform else keys.padding_mask[:, None, None]
        batch = queries.pad(q), keys.pad(k), keys.pad(v)
        return queries.unpad(scaled_dot_product_attention(*batch, attn_mask=mask, enable_gqa=True))
    # Few operators for each sequence, since small packs wait for their launches. cuDNN plans for strides too, so none
    # may depend on the rest of the pack: until the split, the dimension of one comes behind that of the tokens.
    parts = [x[:, None].split(of.lengths) for x, of in ((q, queries), (k, keys), (v, keys))]
    mixed = []
    for sequence in zip(*parts, strict=True):
        query, key, value = (x.permute(1, 2, 0, 3) for x in sequence)
        mixed.append(scaled_dot_product_attention(query, key, value, enable_gqa=True).permute(2, 0, 1, 3))
    return torch.cat(mixed).squeeze(1)


class SequenceMask:
    """Attention in which a query sees the keys of its own sequence; the mask is built once and used by every layer.

    FlexAttention on an accelerator; the CPU, where it has no backward pass, evaluates the same mask densely.
    """

    def __init__(self, queries: torch.Tensor, keys: torch.Tensor, *, flex: bool | None = None) -> None:
        """queries, keys: int64, which sequence each belongs to.

        flex: whether FlexAttention does it; where it can be trained through, when absent.
        """
        self._dense: torch.Tensor | None = None
        self._blocks: BlockMask | None = None
        if queries.device.type == "cuda" if flex is None else flex:
            self._blocks = create_block_mask(
                lambda batch, head, row, column: queries[row] == keys[column],
                B=None,
                H=None,
                Q_LEN=len(queries),
                KV_LEN=len(keys),
                device=queries.device,
            )
        else:
            self._dense = queries[:, None] == keys[None]

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend from q [queries, heads, dim] to k and v [keys, kv heads, dim]; returns [queries, heads, dim]."""
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        if self._blocks is not None:
            kernel = compiled_flex_attention() if q.is_cuda else flex_attention
            mixed = kernel(q, k, v, block_mask=self._blocks, enable_gqa=True)
        else:
            mixed = dense_attention(q, k, v, attn_mask=self._dense)
        return mixed.squeeze(0).transpose(0, 1)


def describe_kernels(device: torch.device) -> str:
    """What dense and packed attention run on a device, for people to read."""
    if device.type != "cuda":
        return "torch's kernel for the CPU"
    first = "cuDNN" if _prefers_cudnn(device) else "FlashAttention"
    if _prefers_cudnn(device) and has_cudnn_frontend():
        return f"{first}, a pack in one call"
    return f"{first}, and torch's kernel for unequal lengths" if _has_varlen_kernel(device) else first


def faster_with(device: torch.device) -> str:
    """What to install for a faster attention of packs on a device; empty where nothing is."""
    if _is_hopper(device) and not has_cudnn_frontend():
        return f"`pip install '{CUDNN_FRONTEND}'` lets cuDNN compute attention of packs, in two thirds of the time"
    return ""


def sdpa_backends(device: torch.device) -> list[SDPBackend]:
    """Kernels that scaled_dot_product_attention may choose on a device, by dtype and shape."""
    if device.type != "cuda":
        return _CPU
    return [SDPBackend.CUDNN_ATTENTION, *_FLASH] if _prefers_cudnn(device) else _FLASH


@cache
def compiled_flex_attention() -> Any:
    """FlexAttention for an accelerator, one graph for all lengths."""
    return torch.compile(flex_attention, dynamic=True)


@contextmanager
def _fastest_kernel(device: torch.device, *, shapes_recur: bool) -> Iterator[None]:
    """Inside, scaled_dot_product_attention tries its kernels in the order that is fastest on `device`.

    On Hopper and newer cuDNN's kernel comes first, nearly twice as fast as the flash kernel there; but it makes a plan
    for every shape it has not met, which takes longer than a step (github.com/modelscope/FunASR/issues/3704), so it is
    only for shapes that come again. To be entered around the calls themselves, because recomputation calls again from
    outside of the forward pass.
    """
    if _prefers_cudnn(device):
        order = sdpa_backends(device) if shapes_recur else _FLASH
        with sdpa_kernel(order, set_priority=True):
            yield
    else:
        yield


@cache
def _varlen_kernel() -> Any:
    from torch.nn.attention.varlen import varlen_attn

    # Since torch 2.12 fewer key-value heads have to be asked for; before, they were taken without a word.
    has_flag = "enable_gqa" in inspect.signature(varlen_attn).parameters
    return partial(varlen_attn, enable_gqa=True) if has_flag else varlen_attn


@cache
def _has_varlen_kernel(device: torch.device) -> bool:
    return torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= _AMPERE


def _prefers_cudnn(device: torch.device) -> bool:
    return _is_hopper(device) and not torch.are_deterministic_algorithms_enabled()


@cache
def _is_hopper(device: torch.device) -> bool:
    """Or newer."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _HOPPER
