"""Records, sources, the loader, packing, video files, the SFT JSONL format."""

from cosmos_core.data.loader import Pack, PackedLoader
from cosmos_core.data.samples import Chat, Clip, Item, Picture, StoredClip, Turn, VideoText
from cosmos_core.data.source import DescribingSource, MapSource, UnreadableSample

__all__ = [
    "Chat",
    "Clip",
    "DescribingSource",
    "Item",
    "MapSource",
    "Pack",
    "PackedLoader",
    "Picture",
    "StoredClip",
    "Turn",
    "UnreadableSample",
    "VideoText",
]
