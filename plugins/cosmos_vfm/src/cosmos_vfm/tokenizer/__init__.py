"""Frozen helpers of the generator: video codecs and text tokenizers, chosen by configuration."""

from cosmos_vfm.tokenizer.text import TextTokens, build_text_tokenizer
from cosmos_vfm.tokenizer.video import VideoCodec, build_video_codec

__all__ = ["TextTokens", "VideoCodec", "build_text_tokenizer", "build_video_codec"]
