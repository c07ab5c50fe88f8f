"""The caption of a window, and the exact text the model reads (docs/data.md, Caption choice)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from cosmos_core.data.jsonl import CALLED
from cosmos_core.names import is_blank, text_fault
from cosmos_core.text_files import EMPTY_CELLS
from cosmos_data_bridge.config import BridgeConfig

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FIELDS", "Caption", "ClipFacts", "check_captions", "choose", "model_text", "serialise"]

_PREFERRED = ("caption_json", "qwen3_32b_rewrite-dense", "caption")
_WRITERS = ("qwen3_235b", "qwen3_32b", "qwen3p5_397b")
_STYLES = {"short": 0.1, "descriptive": 0.2, "dense": 0.7, "temporal": 0.0}
_WEIGHTS = {f"{writer}_{style}": weight for writer in _WRITERS for style, weight in _STYLES.items()}
FIELDS = (*_PREFERRED, *(field for field, weight in _WEIGHTS.items() if weight))
"""Fields of a window of which one is taken."""


@frozen
class Caption:
    """text: before dropout and metadata. structured: whether it was a JSON object. style: the field it came from."""

    text: str
    structured: bool
    style: str


@frozen
class ClipFacts:
    """Facts for the metadata sentences. fps: as told to the model."""

    frames: int
    fps: float
    width: int
    height: int


def serialise(caption: Mapping[str, Any]) -> str:
    """A structured caption as text, keys in stored order. Training and inference must use the same bytes."""
    return json.dumps(caption, ensure_ascii=False)


def choose(window: Mapping[str, Any], random: np.random.Generator) -> Caption | None:
    """The window's caption: structured, else a dense rewrite, else plain, else one of the styles; None without any."""
    for field in _PREFERRED:
        if window.get(field):
            return _caption(window[field], field)
    present = {field: weight for field, weight in _WEIGHTS.items() if window.get(field)}
    total = sum(present.values())
    if not total:
        return None
    field = str(random.choice(list(present), p=[weight / total for weight in present.values()]))
    return _caption(window[field], field)


def check_captions(window: Mapping[str, Any]) -> None:
    """Raises ValueError for a caption of `choose` that is blank, or neither an object nor a text.

    Also where no field is one of a caption, while some are called like it.
    """
    values = {field: window[field] for field in (*_PREFERRED, *_WEIGHTS) if window.get(field) is not None}
    for field, value in values.items():
        if not isinstance(value, Mapping | str):
            raise ValueError(f"'{field}' is neither text nor an object: {value!r:.80}")
        if isinstance(value, Mapping):
            _check_json(value, field)
        if isinstance(value, str) and value and is_blank(value.replace(".", "")):  # Trailing dots become one.
            raise ValueError(f"'{field}' is blank")
        if isinstance(value, str) and (fault := text_fault(value)):
            raise ValueError(f"'{field}' {fault}")
        if isinstance(value, str) and value.strip().lower() in EMPTY_CELLS:
            raise ValueError(f"'{field}' is '{value.strip()}', as other programs write an empty cell")
    others = [name for name, value in window.items() if name.startswith(CALLED) and value is not None]
    if others and not values:
        raise ValueError(f"no caption is called {' or '.join(others):.200}; fields that are read: {', '.join(FIELDS)}")
    # A style that is never drawn does not make up for blank ones.
    read = {field: value for field, value in values.items() if field in FIELDS} or values
    if read and not any(read.values()):
        raise ValueError(f"'{next(iter(read))}' is blank")


def _check_json(value: Any, field: str) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(f"'{field}' holds what JSON has not, such as NaN or a date: {value!r:.80}") from None


def _caption(value: Any, field: str) -> Caption:
    if isinstance(value, Mapping):
        return Caption(serialise(value), True, field)
    return Caption(str(value).strip(), field == "caption_json", field)


def model_text(caption: Caption, facts: ClipFacts, config: BridgeConfig, random: np.random.Generator) -> str:
    """The text for the model, with sentences joined by one space.

    One frame is an image, which has no duration. With probability `cfg_dropout_rate` the text is empty, except for the
    metadata if `cfg_dropout_keep_metadata` is set.
    """
    dropped = random.random() < config.cfg_dropout_rate
    if dropped and (caption.structured or not config.cfg_dropout_keep_metadata):
        return ""
    if caption.structured:
        return caption.text
    sentences = [] if dropped else [caption.text.strip().rstrip(".") + ".", config.caption_suffix.strip()]
    if config.append_duration_fps_timestamps and facts.frames > 1:
        sentences.append(f"The video is {facts.frames / facts.fps:.1f} seconds long and is of {facts.fps:.0f} FPS.")
    if config.append_resolution_info:
        medium = "video" if facts.frames > 1 else "image"
        sentences.append(f"This {medium} is of {facts.height}x{facts.width} resolution.")
    return " ".join(sentence for sentence in sentences if sentence)
