"""Latents of clips on disk, so that each clip is encoded once (docs/data.md, Latent cache)."""

from cosmos_vfm.cache.automatic import open_automatic
from cosmos_vfm.cache.entry import Cached
from cosmos_vfm.cache.folder import LatentCache
from cosmos_vfm.cache.identity import clip_identity, text_identity, video_tokenizer_identity
from cosmos_vfm.cache.writer import LatentWriter

__all__ = [
    "Cached",
    "LatentCache",
    "LatentWriter",
    "clip_identity",
    "open_automatic",
    "text_identity",
    "video_tokenizer_identity",
]
