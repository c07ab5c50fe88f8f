"""What a prompt becomes before it is tokenized (docs/models/generator.md, Prompts of generation)."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

from cosmos_core.strict_json import loads
from cosmos_vfm.generate.canvas import aspect_of

__all__ = ["Facts", "negative_text", "prompt_text"]


@frozen
class Facts:
    """What the model is told about a clip beside its prompt. One frame is a picture.

    tells_duration, tells_size: whether it is told duration and frame rate, and size.
    """

    frames: int
    height: int
    width: int
    fps: float
    tells_duration: bool = True
    tells_size: bool = True

    @property
    def sentences(self) -> tuple[str, ...]:
        """As the base models' training data says them."""
        medium = "image" if self.frames == 1 else "video"
        size = (f"This {medium} is of {self.height}x{self.width} resolution.",) if self.tells_size else ()
        if self.frames == 1 or not self.tells_duration:
            return size
        seconds = self.frames / self.fps
        return f"The video is {seconds:.1f} seconds long and is of {self.fps:.0f} FPS.", *size


def prompt_text(prompt: str, facts: Facts, *, escape: bool) -> str:
    """A structured caption (a JSON object) gets the facts as keys, plain text gets them as sentences.

    escape: write JSON in ASCII, as the released models' training data was; a fine-tuned model reads what it trained on.
    """
    if not (facts.tells_duration or facts.tells_size):
        return prompt
    caption = _structured(prompt)
    if caption is None:
        return _with_sentences(prompt, facts)
    keys: dict[str, Any] = {}
    if facts.tells_duration and facts.frames == 1:
        caption = {key: value for key, value in caption.items() if key not in ("duration", "fps")}
    elif facts.tells_duration:
        keys = {"duration": f"{int(facts.frames / facts.fps)}s", "fps": float(facts.fps)}
    if facts.tells_size:
        keys["resolution"] = {"H": facts.height, "W": facts.width}
        keys["aspect_ratio"] = aspect_of(facts.width, facts.height)
    return json.dumps(caption | keys, ensure_ascii=escape)


def negative_text(negative: str, facts: Facts) -> str:
    """A negative prompt gets the same sentences as the prompt, also if it is structured."""
    return _with_sentences(negative, facts)


def _structured(prompt: str) -> dict[str, Any] | None:
    try:
        value = loads(prompt)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _with_sentences(text: str, facts: Facts) -> str:
    for sentence in facts.sentences:
        text = f"{text.rstrip('.')}. {sentence}" if text else sentence
    return text
