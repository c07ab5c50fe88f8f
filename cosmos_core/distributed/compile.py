"""torch.compile of repeated blocks, with one graph for all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch._functorch.config as partitioner
from torch import nn

from cosmos_core.config.model import Compile

__all__ = [
    "compile_blocks",
    "compile_fn",
    "compiling_seconds",
    "no_view",
    "only_tokens_vary",
    "start_compilers",
]

_WHOLE = "_compile.compile_inner"
"""torch's name for the time of a whole compilation, from bytecode to kernels."""


def compile_blocks(blocks: Iterable[nn.Module], config: Compile) -> None:
    """Compile every block in place, those that recompute too; parameter names do not change.

    To be called after `apply_activation_checkpointing` and before `shard`. A block that recomputes runs uncompiled if
    torch cannot trace its forward pass as one graph.
    """
    if not config.enabled:
        return
    _configure()
    for block in blocks:
        block.compile(dynamic=config.compile_dynamic)


def compile_fn(function: Callable[..., Any], config: Compile, *, backend: str = "inductor") -> Callable[..., Any]:
    """`function`, compiled if `config` says so, and again for every new value of a float. backend: torch.compile's."""
    if not config.enabled:
        return function
    _configure()
    return torch.compile(function, dynamic=config.compile_dynamic, backend=backend)


def start_compilers(config: Compile, device: torch.device) -> None:
    """Start the processes that compile kernels, if `config` needs them, without waiting for them.

    torch starts them when it compiles first. They import torch for seconds, and until then kernels are compiled in this
    process one by one. On a CPU there are none.
    """
    if config.enabled and device.type == "cuda":
        from torch._inductor.async_compile import maybe_warm_pool

        maybe_warm_pool()


def compiling_seconds(config: Compile) -> float:
    """Seconds that this process has spent compiling so far; 0 where `config` compiles nothing."""
    return sum(torch._dynamo.utils.compilation_time_metrics.get(_WHOLE, ())) if config.enabled else 0.0


def no_view(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as a tensor that autograd does not know as a view.

    Dynamic shapes are guarded for an input and for what it is a view of: a layer whose input is a view of another
    shape than that of the first layer, or no view, would be compiled again. FSDP makes inputs of its units views.
    """
    unviewed: torch.Tensor = _NoView.apply(tensor) if tensor._is_view() else tensor  # type: ignore[no-untyped-call]
    return unviewed


def only_tokens_vary(*tensors: torch.Tensor, tokens: int) -> None:
    """Tell the compiler that these tensors keep all sizes but that of the dimension `tokens`.

    Where the size of a head is variable, kernels divide by it for each element, and a rotation takes four times as
    long. Integer attributes of a module that FSDP wraps are variable to the compiler, so a region must read such sizes
    from parameters or from tensors that went through this function.
    """
    for tensor in tensors:
        torch._dynamo.mark_static(tensor, [dimension for dimension in range(tensor.ndim) if dimension != tokens])


class _NoView(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def _configure() -> None:
    """Settings of torch for what is compiled.

    Compiled code may recompute cheap activations in the backward pass, such as normalised states and an MLP's gated
    product: a quarter less memory for one more pass over each. Floats, such as a norm's epsilon, are constants: as
    inputs they make torch trace twice.
    """
    if hasattr(partitioner, "ban_recompute_materialized_backward"):
        partitioner.ban_recompute_materialized_backward = False
    torch._dynamo.config.specialize_float = True
    # About the loss over a large vocabulary, from every rank, and nothing that a user could change.
    warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled", category=UserWarning)
