"""What the backward pass of a part of a network costs beside its forward pass, for counts of model FLOPs.

Model FLOPs leave recomputation out, and count half of causal attention.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from torch import nn

from cosmos_core.optim.lora import is_lora

__all__ = ["Backward"]


class Backward(Enum):
    """How far gradients go: nowhere, through the part to what lies before it, or into its weights too."""

    NONE = 0
    INPUTS = 1
    WEIGHTS = 2

    @property
    def linear(self) -> float:
        """Forward and backward of linear layers, as multiples of their forward pass."""
        return 1.0 + self.value

    @property
    def attention(self) -> float:
        """The same of attention; its backward pass computes five products where its forward pass has two."""
        return 1.0 if self is Backward.NONE else 3.5

    @classmethod
    def of(cls, parameters: Iterable[tuple[str, nn.Parameter]]) -> Backward:
        """Of a part with these named parameters; what adapters cost themselves does not count."""
        trained = [is_lora(name) for name, parameter in parameters if parameter.requires_grad]
        if not trained:
            return cls.NONE
        return cls.INPUTS if all(trained) else cls.WEIGHTS
