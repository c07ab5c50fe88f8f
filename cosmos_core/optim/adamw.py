"""AdamW over the selected parameters."""

from __future__ import annotations

import torch
from torch import nn

from cosmos_core.config.run import OptimizerConfig
from cosmos_core.optim.select import parameter_groups

__all__ = ["adamw_step", "build_adamw"]


def build_adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Torch's AdamW over `parameter_groups`, in their order; frozen parameters have no state."""
    return torch.optim.AdamW(
        [{"params": list(group.parameters), "lr": group.rate} for group in parameter_groups(model, config)],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=config.fused,
    )


def adamw_step(optimizer: torch.optim.Optimizer, finite: torch.Tensor) -> None:
    """Update and free the gradients. finite: bool scalar on the device; if False, weights and moments do not change.

    Fused AdamW skips the update when `found_inf` is set; otherwise the host waits for the value.
    """
    if all(group["fused"] for group in optimizer.param_groups):
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif finite:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
