"""Builds the video tokenizer and the text tokenizer of a configuration; imports only the selected ones."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from threading import Thread

import torch

from cosmos_vfm.config import TextTokenizer, VideoTokenizer
from cosmos_vfm.sizes import NetworkConfig
from cosmos_vfm.tokenizer.text import VISION_START, TextTokens
from cosmos_vfm.tokenizer.video import VideoVAE

__all__ = ["build_text_tokenizer", "build_video_tokenizer", "import_ahead"]


def build_text_tokenizer(config: TextTokenizer, network: NetworkConfig) -> TextTokens:
    """The tokenizer of a configuration. Raises UserError when its files cannot be loaded."""
    if config.type == "words":
        from cosmos_vfm.tokenizer.words import EOS, WordEncoder, token_id

        return TextTokens(WordEncoder(), token_id(EOS), token_id(VISION_START))
    from cosmos_vfm.tokenizer.hub import hub_tokens

    name, revision = (config.path, "main") if config.path else (network.text_model, network.text_revision)
    return hub_tokens(name, revision)


def build_video_tokenizer(config: VideoTokenizer, dtype: torch.dtype) -> VideoVAE:
    """The video tokenizer of a configuration; `dtype` is that of the VAE's weights and arithmetic."""
    if config.type == "block_dct":
        from cosmos_vfm.tokenizer.block_dct import BlockDct

        return BlockDct()
    from cosmos_vfm.tokenizer.wan import WanVae

    return WanVae.load(config.vae_path, dtype)


def import_ahead(config: VideoTokenizer) -> Thread:
    """A thread that imports what `build_video_tokenizer` will need: diffusers, seconds in which weights can be read."""
    thread = Thread(target=_import, args=(config.type,), name="imports", daemon=True)
    thread.start()
    return thread


def _import(kind: str) -> None:
    if kind == "wan22":
        with suppress(ImportError):  # Whoever builds it says so.
            import_module("cosmos_vfm.tokenizer.wan")
