"""Attention by its formula, and how far a kernel is from it, forward and backward."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from attrs import frozen

from cosmos_core.doctor.check import Result

__all__ = ["BOUNDS", "Comparison", "attention_formula", "compare"]

BOUNDS = {torch.float32: 2e-4, torch.float16: 2e-2, torch.bfloat16: 0.15}
"""Largest error by dtype, about four times what right kernels show. A wrong element is off by about 1."""


@frozen
class Comparison:
    """error: the largest |difference| / (|value| + root mean square) over output and gradients; may be nan."""

    error: float
    bound: float
    milliseconds: float

    @property
    def severity(self) -> float:
        """The error, infinite if it is nan."""
        return math.inf if math.isnan(self.error) else self.error

    def result(self, cases: str, hint: str) -> Result:
        """'ok' within the bound. hint: what to do otherwise."""
        right = self.severity <= self.bound
        return Result(
            status="ok" if right else "broken",
            message=f"error {self.error:.2g}, at most {self.bound:g}; {self.milliseconds:.2f} ms; {cases}",
            hint="" if right else hint,
            data={
                "error": str(self.error) if not math.isfinite(self.error) else self.error,
                "bound": self.bound,
                "milliseconds": self.milliseconds,
            },
        )


def attention_formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False) -> torch.Tensor:
    """softmax(QK^T / sqrt(dim)) V of one sequence: q [N, heads, dim], k and v [M, kv heads, dim] -> [N, heads, dim]."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(scores.new_ones(scores.shape[1:]).triu(1).bool(), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


def compare(
    kernel: Callable[..., torch.Tensor], formula: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor]
) -> Comparison:
    """`kernel` on `inputs` beside `formula` on the same numbers in float32; timed at the second call."""
    expected = _with_gradients(formula, [x.float() for x in inputs])
    results = _with_gradients(kernel, inputs)
    _wait(inputs[0])
    begin = time.perf_counter()
    _with_gradients(kernel, inputs)
    _wait(inputs[0])
    seconds = time.perf_counter() - begin
    errors = [_error(result.float(), value) for result, value in zip(results, expected, strict=True)]
    return Comparison(float(torch.stack(errors).max()), BOUNDS[inputs[0].dtype], 1000 * seconds)


def _error(result: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    scale = expected.abs() + expected.square().mean().sqrt()
    return ((result - expected).abs() / scale).max()


def _with_gradients(function: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What a function gives, and the gradient of each input under fixed weights."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(inputs[0])
    return [out.detach(), *torch.autograd.grad(out, leaves, weights.to(out.dtype))]


def _wait(x: torch.Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
