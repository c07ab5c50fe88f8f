"""Records, sources, the loader, packing, video files, the SFT JSONL format."""

from cosmos_core.data.loader import Pack, PackedLoader
from cosmos_core.data.samples import Item, VideoText
from cosmos_core.data.source import MapSource, UnreadableSample

__all__ = ["Item", "MapSource", "Pack", "PackedLoader", "UnreadableSample", "VideoText"]
