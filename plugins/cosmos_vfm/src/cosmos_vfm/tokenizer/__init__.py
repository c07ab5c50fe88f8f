"""Frozen video tokenizers and text tokenizers, selected by configuration."""

from cosmos_vfm.tokenizer.build import build_text_tokenizer, build_video_tokenizer, import_ahead
from cosmos_vfm.tokenizer.text import TextTokens
from cosmos_vfm.tokenizer.video import VideoVAE

__all__ = ["TextTokens", "VideoVAE", "build_text_tokenizer", "build_video_tokenizer", "import_ahead"]
