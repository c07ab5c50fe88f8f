"""A layer as two regions with attention between them: what is compiled, and what the backward pass recomputes.

Attention stays outside of compiled graphs, so that packs of other lengths compile nothing anew, and outside of what
selective checkpointing repeats. The down projection of the MLP is never repeated: no backward pass reads its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from attrs import frozen
from torch.utils._pytree import tree_leaves

from cosmos_core.config.model import ModelConfig
from cosmos_core.distributed.activation_checkpointing import checkpoint_fn, saved_ops
from cosmos_core.distributed.compile import compile_fn, no_view, only_tokens_vary

__all__ = ["AttentionRegions", "RegionFunctions"]


@frozen
class RegionFunctions:
    """Functions of a layer, such as methods of its class, so that all layers of a kind share one graph.

    hidden is [N, width] or [1, N, width], and tensors among inputs have their N there too; mixed is [N, heads, dim].

    pre_attention: (layer, hidden, *inputs) -> what attention takes. post_attention: (layer, hidden, mixed) -> hidden.
    inner, down: the latter in two steps, around what the MLP's down projection takes:
    (layer, hidden, mixed) -> hidden, inner and (layer, hidden, inner) -> hidden.
    """

    pre_attention: Callable[..., Any]
    post_attention: Callable[..., Any]
    inner: Callable[..., Any]
    down: Callable[..., Any]


class AttentionRegions:
    """One stream's way through a layer: pre-attention region, attention, post-attention region."""

    def __init__(self, layer: Any, functions: RegionFunctions) -> None:
        self._layer = layer
        self._functions = functions
        self._run: Callable[..., Any] = self._through
        self._compiled = False
        self._leave_as_written()

    def parallelize(self, config: ModelConfig) -> AttentionRegions:
        """Compile and checkpoint as `config` says, in place; to be called once.

        'full' keeps a layer's inputs, and repeats attention too; 'selective' repeats the regions, and keeps what
        attention gave.
        """
        checkpointing, self._compiled = config.activation_checkpointing, config.compile.enabled
        self._pre_attention = partial(_region(self._functions.pre_attention, config), self._layer)
        self._post_attention = partial(_post_attention(self._functions, config), self._layer)
        if checkpointing.mode == "full":
            self._run = checkpoint_fn(self._through, checkpointing, save=())
        return self

    @contextmanager
    def as_written(self) -> Iterator[None]:
        """Neither compiled nor checkpointed while inside: for passes that are too few to compile for."""
        parallelized = self._pre_attention, self._post_attention, self._run
        self._leave_as_written()
        self._run = self._through
        try:
            yield
        finally:
            self._pre_attention, self._post_attention, self._run = parallelized

    def __call__(
        self, attend: Callable[..., torch.Tensor | None], hidden: torch.Tensor, *inputs: Any
    ) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """The hidden states after the layer, and what the pre-attention region gave.

        attend: takes that; when it returns None, hidden states stay as they were.
        """
        result: tuple[torch.Tensor, tuple[Any, ...]] = self._run(attend, hidden, *inputs)
        return result

    def _leave_as_written(self) -> None:
        self._pre_attention = partial(self._functions.pre_attention, self._layer)
        self._post_attention = partial(self._functions.post_attention, self._layer)

    def _through(
        self, attend: Callable[..., torch.Tensor | None], hidden: torch.Tensor, *inputs: Any
    ) -> tuple[torch.Tensor, tuple[Any, ...]]:
        if self._compiled:
            hidden = no_view(hidden)
            others = (value for value in tree_leaves(inputs) if isinstance(value, torch.Tensor))
            only_tokens_vary(hidden, *others, tokens=hidden.ndim - 2)
        projected = self._pre_attention(hidden, *inputs)
        mixed = attend(*projected)
        if mixed is None:
            return hidden, projected
        if self._compiled:
            mixed = no_view(mixed)
            only_tokens_vary(mixed, tokens=0)
        return self._post_attention(hidden, mixed), projected


def _post_attention(functions: RegionFunctions, config: ModelConfig) -> Callable[..., Any]:
    """As `_region`; where it is recomputed, the down projection runs as written, behind the compiled step.

    torch's checkpoint ends a recomputation at the last tensor that the backward pass reads, which is the projection's
    input. It cannot end within a compiled graph. Graphs that save operators leave out what nothing reads themselves.
    """
    checkpointing = config.activation_checkpointing
    if checkpointing.mode == "none" or saved_ops(checkpointing):
        return _region(functions.post_attention, config)
    inner, down = compile_fn(functions.inner, config.compile), functions.down

    def in_steps(layer: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = down(layer, *inner(layer, hidden, mixed))
        return result

    if checkpointing.mode == "full":
        return in_steps
    recomputing: Callable[..., Any] = checkpoint_fn(in_steps, checkpointing, save=())
    return recomputing


def _region(function: Callable[..., Any], config: ModelConfig) -> Callable[..., Any]:
    """Compiled, and recomputed by itself under 'selective'."""
    checkpointing = config.activation_checkpointing
    if checkpointing.mode != "selective":
        return compile_fn(function, config.compile)
    if save := saved_ops(checkpointing):
        # Compiled code writes products into memory of its own, so a checkpoint around it could save none.
        return compile_fn(checkpoint_fn(function, checkpointing, save=save), config.compile)
    recomputing: Callable[..., Any] = checkpoint_fn(compile_fn(function, config.compile), checkpointing, save=())
    return recomputing
