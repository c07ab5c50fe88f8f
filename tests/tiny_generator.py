"""Writes a tiny generator in the published layout, which diffusers loads as a pipeline."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, Cosmos3OmniPipeline, Cosmos3OmniTransformer, UniPCMultistepScheduler
from transformers import AutoTokenizer

from cosmos_vfm.checkpoints.diffusers_config import native_scheduler, to_diffusers_config
from cosmos_vfm.sizes import NetworkConfig
from cosmos_vfm.tokenizer.wan import WAN_CONFIG
from tests.tiny_reasoner import write_tokenizer

__all__ = ["write_generator"]


def write_generator(folder: Path, network: NetworkConfig, *, seed: int = 0) -> Path:
    """Transformer, Wan VAE of a small width, byte-level tokenizer and scheduler, with random weights."""
    torch.manual_seed(seed)
    config = {key: value for key, value in to_diffusers_config(network).items() if not key.startswith("_")}
    write_tokenizer(folder / "text_tokenizer")
    Cosmos3OmniPipeline(
        transformer=Cosmos3OmniTransformer(**config),
        text_tokenizer=AutoTokenizer.from_pretrained(folder / "text_tokenizer"),
        vae=AutoencoderKLWan(**{**WAN_CONFIG, "base_dim": 8, "decoder_base_dim": 8}),
        scheduler=UniPCMultistepScheduler(
            **{key: value for key, value in native_scheduler(10.0).items() if not key.startswith("_")}
        ),
        enable_safety_checker=False,
        default_use_system_prompt=False,
        use_native_flow_schedule=True,
    ).save_pretrained(folder)
    return folder
