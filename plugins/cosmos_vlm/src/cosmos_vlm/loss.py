"""Cross-entropy over a large vocabulary in chunks: the logits of one chunk exist at a time, computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

__all__ = ["ChunkLoss", "chunk_loss", "summed_cross_entropy"]

ChunkLoss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def chunk_loss(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each row of logits [n, vocabulary], float32 [n], and its gradient in the logits' dtype."""
    wide = logits.float()
    largest = wide.amax(-1, keepdim=True)
    powers = (wide - largest).exp_()
    sums = powers.sum(-1, keepdim=True)
    losses = (sums.log() + largest - wide.gather(-1, targets[:, None]))[:, 0]
    # A mask instead of a scatter: it fuses with its neighbours when compiled.
    is_target = torch.arange(wide.shape[-1], device=wide.device) == targets[:, None]
    probabilities = powers.div_(sums)
    return losses, torch.where(is_target, probabilities - 1, probabilities).to(logits.dtype)


def summed_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    chunk_size: int,
    loss_fn: ChunkLoss = chunk_loss,
    token_losses: torch.Tensor | None = None,
) -> torch.Tensor:
    """Hidden [n, h], weight [vocabulary, h], targets int64 [n]; float32 scalar.

    chunk_size: rows whose logits exist at a time. loss_fn: `chunk_loss`, compiled or not. token_losses: float32 [n],
    filled with the parts of the sum. Gradients are computed in the forward pass, so each of the three products runs
    once.
    """
    settings = chunk_size, loss_fn, torch.is_grad_enabled(), token_losses
    total: torch.Tensor = _SummedCrossEntropy.apply(hidden, weight, targets, *settings)  # type: ignore[no-untyped-call]
    return total


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        chunk_size: int,
        loss_fn: ChunkLoss,
        grad_enabled: bool,
        token_losses: torch.Tensor | None,
    ) -> torch.Tensor:
        hidden_needs, weight_needs = (grad_enabled and needed for needed in ctx.needs_input_grad[:2])
        total = torch.zeros((), device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if hidden_needs else None
        grad_weight = torch.zeros_like(weight) if weight_needs else None
        for start in range(0, len(hidden), chunk_size):
            part = slice(start, start + chunk_size)
            losses, grad_logits = loss_fn(linear(hidden[part], weight), targets[part])
            total += losses.sum()
            if token_losses is not None:
                token_losses[part] = losses
            if grad_hidden is not None:
                torch.mm(grad_logits, weight, out=grad_hidden[part])
            if grad_weight is not None:
                grad_weight.addmm_(grad_logits.T, hidden[part])
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> Any:
        gradients = (None if grad is None else grad.mul_(grad_output) for grad in ctx.saved_tensors)
        return *gradients, None, None, None, None, None
