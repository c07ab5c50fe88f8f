"""torch.compile of repeated blocks, one graph for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch._functorch.config as partitioner
from torch import nn

from cosmos_core.config.model import Compile

__all__ = ["compile_blocks", "compile_fn"]


def compile_blocks(blocks: Iterable[nn.Module], config: Compile) -> None:
    """Compile every block in place; parameter names stay as they are."""
    if not config.enabled:
        return
    _keep_less()
    for block in blocks:
        block.compile(dynamic=config.compile_dynamic)


def compile_fn(function: Callable[..., Any], config: Compile) -> Callable[..., Any]:
    """`function`, compiled if `config` says so."""
    if not config.enabled:
        return function
    _keep_less()
    return torch.compile(function, dynamic=config.compile_dynamic)


def _keep_less() -> None:
    """Let compiled code make cheap inputs of the backward pass's products anew (normed states, the gated product of an
    MLP) instead of keeping them: a quarter less memory for activations, for one more pass over each."""
    if hasattr(partitioner, "ban_recompute_materialized_backward"):
        partitioner.ban_recompute_materialized_backward = False
