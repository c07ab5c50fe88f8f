"""Records, sources, the loader, packing, video files, the SFT JSONL format."""

from cosmos_core.data.loader import Pack, PackedLoader
from cosmos_core.data.samples import Chat, Clip, Item, Picture, Turn, VideoText
from cosmos_core.data.source import MapSource, UnreadableSample

__all__ = [
    "Chat",
    "Clip",
    "Item",
    "MapSource",
    "Pack",
    "PackedLoader",
    "Picture",
    "Turn",
    "UnreadableSample",
    "VideoText",
]
