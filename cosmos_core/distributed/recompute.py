"""Activation checkpointing of repeated blocks. Parameter names stay as they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from cosmos_core.config.model import ActivationCheckpointing

__all__ = ["wrap_blocks"]


def wrap_blocks(blocks: Iterable[nn.Module], config: ActivationCheckpointing) -> None:
    """Make every block recompute in the backward pass what `config` does not keep."""
    if config.mode == "none":
        return
    options: dict[str, Any] = {
        "use_reentrant": False,
        "preserve_rng_state": config.preserve_rng_state,
        "determinism_check": config.determinism_check,
    }
    if config.mode == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy(config.save_ops_regex))
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, **options)


def _policy(patterns: tuple[str, ...]) -> Callable[..., CheckpointPolicy]:
    expressions = [re.compile(pattern) for pattern in patterns]

    def policy(context: Any, operator: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
        kept = any(expression.search(str(operator)) for expression in expressions)
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

    return policy
