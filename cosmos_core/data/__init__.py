"""Records, sources, the loader, packing, video files, the SFT JSONL format."""

from cosmos_core.data.loader import MicroBatch, PackedLoader, Preparation
from cosmos_core.data.samples import Answer, Chat, Image, Item, Message, Record, StoredClip, Video, VideoText
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
    "UnreadableSample",
    "Video",
    "VideoText",
]
