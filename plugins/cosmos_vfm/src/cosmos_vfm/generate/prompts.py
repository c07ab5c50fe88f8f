"""What a prompt becomes before it is tokenized (docs/models/generator.md, Prompts of generation)."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

from cosmos_vfm.generate.canvas import aspect_of

__all__ = ["Facts", "negative_text", "prompt_text"]


@frozen
class Facts:
    """What the model is told about a clip beside its prompt. One frame is a picture."""

    frames: int
    height: int
    width: int
    fps: float

    @property
    def sentences(self) -> tuple[str, ...]:
        """As the base models' training data says them."""
        size = f"{self.height}x{self.width} resolution."
        if self.frames == 1:
            return (f"This image is of {size}",)
        seconds = self.frames / self.fps
        duration = f"The video is {seconds:.1f} seconds long and is of {self.fps:.0f} FPS."
        return duration, f"This video is of {size}"


def prompt_text(prompt: str, facts: Facts, *, escape: bool) -> str:
    """A structured caption (a JSON object) gets the facts as keys, plain text gets them as sentences.

    escape: write JSON in ASCII, as the released models' training data was; a fine-tuned model reads what it trained on.
    """
    caption = _structured(prompt)
    if caption is None:
        return _with_sentences(prompt, facts)
    seconds = int(facts.frames / facts.fps)
    told: dict[str, Any] = {"duration": f"{seconds}s", "fps": float(facts.fps)}
    if facts.frames == 1:
        told = {}
        caption = {key: value for key, value in caption.items() if key not in ("duration", "fps")}
    told |= {"resolution": {"H": facts.height, "W": facts.width}, "aspect_ratio": aspect_of(facts.width, facts.height)}
    return json.dumps(caption | told, ensure_ascii=escape)


def negative_text(negative: str, facts: Facts) -> str:
    """A negative prompt gets the same sentences as the prompt, also if it is structured."""
    return _with_sentences(negative, facts)


def _structured(prompt: str) -> dict[str, Any] | None:
    try:
        value = json.loads(prompt)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _with_sentences(text: str, facts: Facts) -> str:
    for sentence in facts.sentences:
        text = f"{text.rstrip('.')}. {sentence}" if text else sentence
    return text
