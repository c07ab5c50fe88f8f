"""What a layer keeps between forward and backward pass, found by running it on the meta device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from attrs import evolve, frozen
from torch import nn
from torch.utils._pytree import tree_leaves

from cosmos_core.attention.ragged import ragged_workspace
from cosmos_core.attention.regions import RegionFunctions
from cosmos_core.config.model import Compile
from cosmos_core.distributed.compile import compile_fn

__all__ = ["LayerMemory", "SavedBytes", "layer_memory"]

WORKING_TENSORS = 3
"""Gradients and recomputed products of the widest activation's size that exist at once in a layer's backward pass: of a
gated MLP, those of gate, up and their product."""


@frozen
class LayerMemory:
    """Bytes of one layer, by mode of recomputation.

    kept: until the layer's backward pass. working: beside that, while the backward pass of the layer runs.
    """

    kept: dict[str, float]
    working: dict[str, float]


class SavedBytes:
    """Counts distinct storages that autograd saves inside; views of one storage count once.

    ignored: tensors that exist anyway, such as parameters.
    """

    def __init__(self, ignored: Iterable[torch.Tensor] = ()) -> None:
        self._ignored = {value.untyped_storage()._cdata for value in ignored}
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self.add, lambda value: value)

    def __enter__(self) -> SavedBytes:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)

    def add(self, value: torch.Tensor) -> torch.Tensor:
        """Count a tensor."""
        storage = value.untyped_storage()
        if storage._cdata not in self._ignored:
            self._storages[storage._cdata] = storage
        return value

    def __or__(self, other: SavedBytes) -> SavedBytes:
        both = SavedBytes()
        both._storages = self._storages | other._storages
        return both

    @property
    def sizes(self) -> list[int]:
        """Bytes of every storage."""
        return [storage.nbytes() for storage in self._storages.values()]


class _Attention(torch.autograd.Function):
    """Saves what a fused attention kernel saves: its inputs, its output, and a float32 for each query and head."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out


def layer_memory(
    layer: nn.Module,
    functions: RegionFunctions,
    hidden: torch.Tensor,
    inputs: Sequence[Any],
    config: Compile,
    *,
    other_keys: int = 0,
) -> LayerMemory:
    """Of a layer on the meta device whose parameters have the dtype that they are used in.

    hidden: [N, width] or [1, N, width]. inputs: of the pre-attention region besides, such as rotations, which all
    layers share. other_keys: rows of keys and values from elsewhere, joined to the layer's own.
    """
    hidden = hidden.detach().requires_grad_()
    shared = [*layer.parameters(), *(value for value in tree_leaves(inputs) if isinstance(value, torch.Tensor))]
    # The partitioner decides what a compiled region saves, so it runs; no kernel is compiled.
    static = evolve(config, compile_dynamic=False)
    pre, post = (
        compile_fn(function, static, backend="aot_eager_decomp_partition")
        for function in (functions.pre_attention, functions.post_attention)
    )
    before, around, after = (SavedBytes(shared) for _ in range(3))
    with before:
        q, k, v = pre(layer, hidden, *inputs)
    if other_keys:
        k, v = (torch.cat([value.new_empty(other_keys, *value.shape[1:]), value]) for value in (k, v))
    around.add(hidden)
    with around:
        mixed = _Attention.apply(q, k, v)  # type: ignore[no-untyped-call]
    with after:
        post(layer, hidden, mixed)
    if config.enabled:
        torch.compiler.reset()  # Training compiles the same functions, and how often it may is limited.
    everything = sum((before | around | after).sizes)
    recomputed = max(sum(before.sizes), sum(after.sizes))
    gradients = WORKING_TENSORS * max(after.sizes)
    attended = ragged_workspace(q.shape[-2], q.shape[-1], len(q), len(k)) + 2 * q.nbytes + k.nbytes + v.nbytes
    working = max(gradients, attended)
    return LayerMemory(
        {"none": everything, "selective": sum(around.sizes), "full": hidden.untyped_storage().nbytes()},
        {"none": working, "selective": recomputed + working, "full": everything + working},
    )
