"""Records, sources, the loader, packing, video files, the SFT JSONL format. Names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosmos_core.data.loader import MicroBatch, PackedLoader
    from cosmos_core.data.preparation import Preparation
    from cosmos_core.data.samples import (
        Answer,
        Chat,
        Image,
        Item,
        Message,
        Record,
        StoredClip,
        ToolCall,
        Video,
        VideoText,
    )
    from cosmos_core.data.source import MapSource, UnreadableSample

__all__ = [
    "Answer",
    "Chat",
    "Image",
    "Item",
    "MapSource",
    "Message",
    "MicroBatch",
    "PackedLoader",
    "Preparation",
    "Record",
    "StoredClip",
    "ToolCall",
    "UnreadableSample",
    "Video",
    "VideoText",
]

_FILES = {
    "loader": ("MicroBatch", "PackedLoader"),
    "preparation": ("Preparation",),
    "source": ("MapSource", "UnreadableSample"),
}


def __getattr__(name: str) -> Any:
    """The names above on demand: a dry run reads indices of clips without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = next((file for file, names in _FILES.items() if name in names), "samples")
    return getattr(import_module(f"{__name__}.{file}"), name)
