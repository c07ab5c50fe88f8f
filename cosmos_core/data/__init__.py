"""Records, sources, the loader, packing, video files, the SFT JSONL format."""

from cosmos_core.data.loader import MicroBatch, PackedLoader, Preparation
from cosmos_core.data.samples import Answer, Chat, Clip, Item, Picture, Record, StoredClip, Turn, VideoText
from cosmos_core.data.source import MapSource, UnreadableSample

__all__ = [
    "Answer",
    "Chat",
    "Clip",
    "Item",
    "MapSource",
    "MicroBatch",
    "PackedLoader",
    "Picture",
    "Preparation",
    "Record",
    "StoredClip",
    "Turn",
    "UnreadableSample",
    "VideoText",
]
