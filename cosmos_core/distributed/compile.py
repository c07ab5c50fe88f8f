"""torch.compile of repeated blocks, one graph for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from cosmos_core.config.model import Compile

__all__ = ["compile_blocks", "compiled"]


def compile_blocks(blocks: Iterable[nn.Module], config: Compile) -> None:
    """Compile every block in place; parameter names stay as they are."""
    if not config.enabled:
        return
    for block in blocks:
        block.compile(dynamic=config.compile_dynamic)


def compiled(function: Callable[..., Any], config: Compile) -> Callable[..., Any]:
    """`function`, compiled if `config` says so."""
    return torch.compile(function, dynamic=config.compile_dynamic) if config.enabled else function
