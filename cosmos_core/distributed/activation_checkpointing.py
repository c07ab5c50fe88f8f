"""Activation checkpointing of repeated blocks and their parts; parameter names do not change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from attrs import evolve
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from cosmos_core.config.model import ActivationCheckpointing, ModelConfig

__all__ = ["apply_activation_checkpointing", "checkpoint_fn", "config_of_layer", "saved_ops"]

ATTENTION = ("fmha", "flash_attention", "cudnn_attention", "scaled_dot_product_attention", "attention")


def apply_activation_checkpointing(blocks: Iterable[nn.Module], config: ActivationCheckpointing) -> None:
    """Checkpoint the blocks that recompute: their backward pass recomputes what `config` does not save."""
    patterns = config.save_ops_regex if config.mode == "selective" else ()
    blocks = list(blocks)
    if config.mode in ("selective", "full"):
        for block in blocks[: round(config.share * len(blocks))]:
            block.forward = checkpoint_fn(block.forward, config, save=patterns)


def config_of_layer(config: ModelConfig, index: int, num_layers: int) -> ModelConfig:
    """The section for one layer: nothing is recomputed in those past the share that recomputes."""
    checkpointing = config.activation_checkpointing
    if index < round(checkpointing.share * num_layers):
        return config
    return evolve(config, activation_checkpointing=evolve(checkpointing, mode="none"))


def saved_ops(config: ActivationCheckpointing) -> tuple[str, ...]:
    """Patterns of the operators that 'selective' saves besides attention, for families that always save attention."""
    if config.mode != "selective":
        return ()
    return tuple(p for p in config.save_ops_regex if not any(re.search(p, name) for name in ATTENTION))


def checkpoint_fn(function: Callable[..., Any], config: ActivationCheckpointing, *, save: Sequence[str]) -> Any:
    """`function` with its activations recomputed in the backward pass.

    save: regular expressions of operators whose results are saved. The result may be compiled; `function` may be
    compiled only where nothing is saved.
    """
    options: dict[str, Any] = {
        "use_reentrant": False,
        "preserve_rng_state": config.preserve_rng_state,
        "determinism_check": config.determinism_check,
    }
    if save:
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy(save))

    # A function of our own, since torch traces no `partial` of its checkpoint, and compiles nothing below one.
    def recomputing(*arguments: Any, **named: Any) -> Any:
        return checkpoint(function, *arguments, **options, **named)

    return recomputing


def _policy(patterns: Sequence[str]) -> Callable[..., CheckpointPolicy]:
    expressions = [re.compile(pattern) for pattern in patterns]

    def policy(context: Any, operator: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
        saved = any(expression.search(str(operator)) for expression in expressions)
        return CheckpointPolicy.MUST_SAVE if saved else CheckpointPolicy.PREFER_RECOMPUTE

    return policy
