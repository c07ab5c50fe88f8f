"""Context parallelism: a sequence is split over several processes (Ulysses, arXiv:2309.14509).

Each process has consecutive tokens. For attention an all-to-all gives each process all tokens of some of the heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.functional import pad

__all__ = ["ContextGroup"]


@dataclass(frozen=True, slots=True)
class ContextGroup:
    """The processes that share a pack. rank: of this process in the group."""

    group: dist.ProcessGroup
    rank: int
    size: int

    def own(self, x: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """This process's part of all tokens, padded with zeros to the same length on every process."""
        length = -(-x.shape[dim] // self.size)
        missing = length * self.size - x.shape[dim]
        widths = (0, 0) * (x.ndim - 1 - dim) + (0, missing)
        return pad(x, widths).narrow(dim, self.rank * length, length)

    def gather(self, own: torch.Tensor, count: int) -> torch.Tensor:
        """All processes' tokens, without padding.

        The backward pass keeps the gradient of this process's tokens, times the number of processes: all compute the
        same loss, and FSDP averages over them.
        """
        whole: torch.Tensor = _Gather.apply(own, self)  # type: ignore[no-untyped-call]
        return whole[:count]

    def to_heads(self, x: torch.Tensor, count: int) -> torch.Tensor:
        """[own tokens, heads, dim] -> [count, heads / size, dim]; fewer heads than processes are repeated."""
        if x.shape[1] < self.size:
            x = x.repeat_interleave(self.size // x.shape[1], dim=1)
        length, heads, dim = x.shape
        blocks = x.view(length, self.size, heads // self.size, dim).transpose(0, 1)
        swapped: torch.Tensor = _Swap.apply(blocks.contiguous(), self.group)  # type: ignore[no-untyped-call]
        return swapped.flatten(0, 1)[:count]

    def to_tokens(self, x: torch.Tensor) -> torch.Tensor:
        """[all tokens, heads / size, dim] -> [own tokens, heads, dim]."""
        length = -(-len(x) // self.size)
        blocks = pad(x, (0, 0, 0, 0, 0, length * self.size - len(x))).unflatten(0, (self.size, length))
        swapped: torch.Tensor = _Swap.apply(blocks.contiguous(), self.group)  # type: ignore[no-untyped-call]
        return swapped.transpose(0, 1).flatten(1, 2)


class _Swap(torch.autograd.Function):
    """all_to_all over the first dimension; its own inverse."""

    @staticmethod
    def forward(ctx: Any, blocks: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        swapped = torch.empty_like(blocks)
        dist.all_to_all_single(swapped, blocks, group=group)
        return swapped

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        swapped = torch.empty_like(gradients[0], memory_format=torch.contiguous_format)
        dist.all_to_all_single(swapped, gradients[0].contiguous(), group=ctx.group)
        return swapped, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, context: ContextGroup) -> torch.Tensor:
        ctx.context = context
        whole = own.new_empty(context.size * len(own), *own.shape[1:])
        dist.all_gather(list(whole.chunk(context.size)), own.contiguous(), group=context.group)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        context: ContextGroup = ctx.context
        return gradients[0].chunk(context.size)[context.rank] * context.size, None
