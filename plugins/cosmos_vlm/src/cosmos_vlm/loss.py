"""Cross-entropy over a large vocabulary, chunk by chunk: all logits never exist, and none is computed twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

__all__ = ["ChunkLoss", "chunk_loss", "summed_cross_entropy"]

ChunkLoss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def chunk_loss(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy of logits [n, vocabulary], float32 scalar, and its gradient in the logits' dtype."""
    wide = logits.float()
    largest = wide.amax(-1, keepdim=True)
    powers = (wide - largest).exp_()
    sums = powers.sum(-1, keepdim=True)
    loss = (sums.log() + largest - wide.gather(-1, targets[:, None])).sum()
    # A mask instead of a scatter: it fuses with its neighbours when compiled.
    chosen = torch.arange(wide.shape[-1], device=wide.device) == targets[:, None]
    shares = powers.div_(sums)
    return loss, torch.where(chosen, shares - 1, shares).to(logits.dtype)


def summed_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int, one: ChunkLoss = chunk_loss
) -> torch.Tensor:
    """hidden [n, h], weight [vocabulary, h], targets int64 [n]; float32 scalar.

    chunk: rows whose logits exist at a time. one: `chunk_loss`, compiled or not. Gradients are made on the way
    forward, so that each of the three products runs once.
    """
    settings = chunk, one, torch.is_grad_enabled()
    total: torch.Tensor = _SummedCrossEntropy.apply(hidden, weight, targets, *settings)  # type: ignore[no-untyped-call]
    return total


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        chunk: int,
        one: ChunkLoss,
        learns: bool,
    ) -> torch.Tensor:
        learns_hidden, learns_weight = (learns and needed for needed in ctx.needs_input_grad[:2])
        total = torch.zeros((), device=hidden.device)
        by_hidden = torch.empty_like(hidden) if learns_hidden else None
        by_weight = torch.zeros_like(weight) if learns_weight else None
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            loss, by_logits = one(linear(hidden[part], weight), targets[part])
            total += loss
            if by_hidden is not None:
                torch.mm(by_logits, weight, out=by_hidden[part])
            if by_weight is not None:
                by_weight.addmm_(by_logits.T, hidden[part])
        ctx.save_for_backward(by_hidden, by_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: torch.Tensor) -> Any:
        by_hidden, by_weight = ctx.saved_tensors
        return *(None if part is None else part.mul_(factor) for part in (by_hidden, by_weight)), *[None] * 4
