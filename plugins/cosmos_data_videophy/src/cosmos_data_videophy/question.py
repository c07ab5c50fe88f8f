"""The questions of training and evaluation, and the layout of a conversation."""

from __future__ import annotations

from typing import Any

__all__ = ["RUBRIC", "SHORT", "YES_OR_NO", "conversation"]

RUBRIC = (
    "You judge how physically plausible a video is. Look at four things: whether objects keep shape and substance, "
    "whether motion follows from the forces at work, whether contacts and collisions have right effects, and whether "
    "all of this stays consistent from the first frame to the last. Rate the video on this scale:\n"
    "1: physics is broken throughout.\n"
    "2: most of what happens could not happen.\n"
    "3: plausible and impossible moments are about even.\n"
    "4: plausible but for small flaws.\n"
    "5: fully plausible.\n"
    "Answer with one number from 1 to 5 and nothing else. For example, a video with many impossible moments: 2"
)
SHORT = "How physical does this video look? Answer with one number from 1 to 5."
YES_OR_NO = (
    "Does this video both show what it was asked to show and obey physics from beginning to end? Answer yes or no."
)


def conversation(question: str, answer: str, caption: str | None = None) -> dict[str, Any]:
    """A dialog in the canonical layout; a caption becomes the last line of the question."""
    text = question if caption is None else f"{question}\nCaption: {caption}"
    user = [{"type": "video", "video": "video_0"}, {"type": "text", "text": text}]
    assistant = [{"type": "text", "text": answer}]
    return {"conversations": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]}
