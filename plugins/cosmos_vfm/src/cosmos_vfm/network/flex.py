"""All latents over all text and latents of the pack at once, under a mask that keeps samples apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from cosmos_core.distributed import attention, transferred
from cosmos_vfm.network.attending import KeysValues
from cosmos_vfm.network.segments import Segments

__all__ = ["Flex"]


class Flex:
    """The layout over one pack; the mask is built once and used by every layer.

    FlexAttention on an accelerator; the CPU, where it has no backward pass, evaluates the same mask densely.
    """

    def __init__(self, segments: Segments, device: torch.device, *, blocks: bool | None = None) -> None:
        """blocks: whether FlexAttention does it; where it can be trained through, when absent."""
        self.segments = segments
        queries = _samples(segments.latents.lengths, device)
        keys = torch.cat([_samples(segments.text.lengths, device), queries])
        self._dense: torch.Tensor | None = None
        self._blocks: BlockMask | None = None
        if device.type == "cuda" if blocks is None else blocks:
            self._blocks = create_block_mask(
                lambda batch, head, row, column: queries[row] == keys[column],
                B=None,
                H=None,
                Q_LEN=len(queries),
                KV_LEN=len(keys),
                device=device,
            )
        else:
            self._dense = queries[:, None] == keys[None]

    def attend_text(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """As in every layout."""
        return self.segments.attend_text(q, k, v)

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """One call for the whole pack."""
        q = q.transpose(0, 1).unsqueeze(0)
        k, v = (torch.cat(pair).transpose(0, 1).unsqueeze(0) for pair in zip(text_kv, latent_kv, strict=True))
        if self._blocks is not None:
            kernel = _compiled_flex() if q.is_cuda else flex_attention
            out = kernel(q, k, v, block_mask=self._blocks, enable_gqa=True)
        else:
            out = attention(q, k, v, attn_mask=self._dense)
        return out.squeeze(0).transpose(0, 1).flatten(1)


def _samples(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """Which sample each token belongs to."""
    return transferred(torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)), device)


@cache
def _compiled_flex() -> Any:
    return torch.compile(flex_attention, dynamic=True)
