"""How much of clips is encoded at once, by the card; the plan and the encoder go by the same number."""

from __future__ import annotations

__all__ = ["BYTES_A_PIXEL", "pixels_at_once"]

CHANNELS, PATCHES, LIVE, ELEMENT = 160, 4, 10, 2
"""Channels of the encoder's widest activations, pixels below one of their elements, how many exist at once, bytes."""
BYTES_A_PIXEL = CHANNELS / PATCHES * LIVE * ELEMENT
"""Of activations while a pixel of a frame is encoded."""
SHARE = 1 / 16
"""Of the card's memory. Encoding keeps a card busy from a few million pixels on; more would only take memory."""
WITHOUT_CARD = 16.0
"""GiB that stand for a card where there is none."""


def pixels_at_once(memory: float | None) -> int:
    """Pixels, over all frames and clips, to encode at once. memory: GiB of the card; None on a CPU.

    It depends on the kind of card alone, not on what is free at the moment, so a run that resumes rounds the same.
    """
    return int(SHARE * (WITHOUT_CARD if memory is None else memory) * 2**30 / BYTES_A_PIXEL)
