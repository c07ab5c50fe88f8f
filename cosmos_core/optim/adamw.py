"""AdamW over the selected parameters."""

from __future__ import annotations

import torch
from torch import nn

from cosmos_core.config.run import OptimizerConfig
from cosmos_core.optim.select import parameter_groups

__all__ = ["build_adamw"]


def build_adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """torch's AdamW over `parameter_groups`, in their order; frozen parameters have no state."""
    return torch.optim.AdamW(
        [{"params": list(group.parameters), "lr": group.rate} for group in parameter_groups(model, config)],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=config.fused,
    )
