"""Dialogs longer than a pack, made shorter: with smaller images and videos, or with the end of the last answer cut.

See docs/data.md, Samples longer than a pack.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from cosmos_core.data import Chat, Image, UnreadableSample, Video
from cosmos_vlm.chat_processor import IGNORE_INDEX, TokenizedConversation
from cosmos_vlm.processor_files import PixelLimits
from cosmos_vlm.vision import FACTOR, fit_image, fit_video

__all__ = ["limits_that_fit", "truncated"]

STEP = 0.95
"""The limits shrink by this factor until the dialog fits."""


def truncated(conversation: TokenizedConversation, max_tokens: int) -> TokenizedConversation:
    """The first `max_tokens` tokens, which must reach into the last answer. Raises UnreadableSample."""
    labels = conversation.labels[:max_tokens]
    if bool((conversation.visual_token_indices >= max_tokens).any()):
        raise UnreadableSample(conversation.key, "its images or videos lie beyond the cut")
    if not bool((labels[conversation.prompt_len :] != IGNORE_INDEX).any()):
        raise UnreadableSample(conversation.key, "its last answer lies beyond the cut")
    return evolve(
        conversation,
        ids=conversation.ids[:max_tokens],
        labels=labels,
        positions=conversation.positions[:, :max_tokens],
    )


def limits_that_fit(
    chat: Chat, conversation: TokenizedConversation, limits: PixelLimits, max_tokens: int
) -> PixelLimits:
    """Limits of image and video sizes under which the dialog has at most `max_tokens`.

    The largest images and videos become smaller first. Raises UnreadableSample when its texts alone are too long.
    """
    media = [part for message in chat.messages for part in message.content if not isinstance(part, str)]
    most = max_tokens - (len(conversation.ids) - len(conversation.visual_token_indices))
    image = max((_pixels(part, limits) for part in media if isinstance(part, Image)), default=0)
    video = max((_pixels(part, limits) for part in media if isinstance(part, Video)), default=0)
    smallest = FACTOR**2
    share = 1.0
    while _tokens(media, limits) > most:
        share *= STEP
        if max(image, video) * share < smallest:
            raise UnreadableSample(chat.key, "its texts leave no room for its images and videos")
        limits = PixelLimits(image=_capped(limits.image, image * share), video=_capped(limits.video, video * share))
    return limits


def _capped(limits: tuple[int, int], most: float) -> tuple[int, int]:
    high = max(FACTOR**2, int(most))
    return min(limits[0], high), min(limits[1], high)


def _tokens(media: Sequence[Image | Video], limits: PixelLimits) -> int:
    return sum(_pixels(part, limits) // (FACTOR**2 * (1 if isinstance(part, Image) else 2)) for part in media)


def _pixels(part: Image | Video, limits: PixelLimits) -> int:
    """Pixels after resizing, over all frames of a video."""
    height, width = part.pixels.shape[-2:]
    if isinstance(part, Image):
        rows, columns = fit_image(height, width, *limits.image)
        return rows * columns
    # An odd number of frames is completed by repeating the last.
    frames = part.pixels.shape[1] + part.pixels.shape[1] % 2
    rows, columns = fit_video(max(part.pixels.shape[1], 2), height, width, *limits.video)
    return frames * rows * columns
