"""Frozen helpers of the generator: video codecs and text tokenizers, chosen by configuration."""

from cosmos_vfm.tokenizer.build import build_text_tokenizer, build_video_codec
from cosmos_vfm.tokenizer.text import TextTokens
from cosmos_vfm.tokenizer.video import VideoCodec

__all__ = ["TextTokens", "VideoCodec", "build_text_tokenizer", "build_video_codec"]
