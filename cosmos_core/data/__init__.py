"""Records, sources, the loader, packing, video files, the SFT JSONL format."""

from cosmos_core.data.loader import Pack, PackedLoader
from cosmos_core.data.samples import Answer, Chat, Clip, Item, Picture, StoredClip, Turn, VideoText
from cosmos_core.data.source import (
    ArrangedSource,
    DescribingSource,
    IdentifiedSource,
    MapSource,
    ScoringSource,
    SelectiveSource,
    UnreadableSample,
)

__all__ = [
    "Answer",
    "ArrangedSource",
    "Chat",
    "Clip",
    "DescribingSource",
    "IdentifiedSource",
    "Item",
    "MapSource",
    "Pack",
    "PackedLoader",
    "Picture",
    "ScoringSource",
    "SelectiveSource",
    "StoredClip",
    "Turn",
    "UnreadableSample",
    "VideoText",
]
