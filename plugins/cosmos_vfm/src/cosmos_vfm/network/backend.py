"""Interface of attention backends."""

from __future__ import annotations

from typing import Protocol

import torch

__all__ = ["AttentionBackend", "KeysValues", "TextCache"]

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, each [N, kv heads, dim]."""

TextCache = list[list[KeysValues]]
"""One list a layer: empty, or with the keys and values of the text that latents attend to."""


class AttentionBackend(Protocol):
    """Attention over the packed sequences of one micro-batch; queries and results are [N, heads, dim]."""

    def attend_text(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Causal self-attention of each sample's text."""
        ...

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """Each sample's latents over all of its text and latents."""
        ...
