"""Attention as its formula says, for one sequence at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

__all__ = ["attention_formula", "each_sequence", "with_gradients"]


def attention_formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False) -> torch.Tensor:
    """q [N, heads, dim], k and v [M, kv heads, dim] -> [N, heads, dim]."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones(len(q), len(k)).triu(1).bool(), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


def each_sequence(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], *, causal: bool
) -> torch.Tensor:
    """The formula over each sequence of a pack on its own."""
    parts = zip(*(x.split(list(lengths)) for x in (q, k, v)), strict=True)
    return torch.cat([attention_formula(*part, causal=causal) for part in parts])


def with_gradients(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> list[torch.Tensor]:
    """What a function gives, and the gradient of each input under fixed weights."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    (out * torch.arange(out.numel()).view(out.shape).sin()).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]
