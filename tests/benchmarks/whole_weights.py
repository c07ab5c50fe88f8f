"""Random weights of a published size, written as a run finds them; drawn on the device where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Qwen3VLConfig

from cosmos_core.checkpoint import DcpWriter
from cosmos_core.plan import write_base
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.tokenizer.wan import WAN_CONFIG
from cosmos_vlm.network import ReasonerNetwork
from tests.benchmarks.vlm_case import CASES, LARGE_TOWER
from tests.tiny_reasoner import write_tokenizer

__all__ = ["write_generator_base", "write_reasoner_backbone", "write_vae"]

FILE_BYTES = 4 * 2**30


def write_generator_base(folder: Path, tier: str, num_layers: int | None) -> None:
    """A converted base of the first layers of a model size."""
    with torch.device("meta"):
        network = Cosmos3Network(VfmConfig(tier=tier, num_layers=num_layers).network)
    writer, count = DcpWriter(folder / "model"), 0
    for tensors in _files(network):
        writer.write(count, ((f"net.{name}", value) for name, value in tensors.items()), of="random")
        count += 1
    writer.finish(count)
    write_base(folder, source_revision="random", config={})


def write_vae(folder: Path, *, small: bool) -> None:
    """A Wan 2.2 VAE; small: of a small width."""
    from diffusers import AutoencoderKLWan

    config = {**WAN_CONFIG, "base_dim": 8, "decoder_base_dim": 8} if small else WAN_CONFIG
    with torch.device(_device()):
        vae = AutoencoderKLWan(**config)
    vae.to(torch.bfloat16).save_pretrained(folder)


def write_reasoner_backbone(folder: Path, corpus: list[str], num_layers: int | None, *, small: bool) -> None:
    """Configuration of a whole Qwen3-VL-8B, tokenizer, and weights with the language model's first layers."""
    folder.mkdir(parents=True)
    ids = write_tokenizer(folder, corpus)
    case = CASES["smoke text" if small else "text"]
    text = {**case.text, "num_hidden_layers": 2 if small else 36}
    sections, heads = ([4, 2, 2], 2) if small else ([24, 20, 20], 16)
    tower = case.tower if small else {**LARGE_TOWER, "num_position_embeddings": 2304}
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": sections, "mrope_interleaved": True}
    config = Qwen3VLConfig(
        tie_word_embeddings=False,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        text_config={**text, "tie_word_embeddings": False, "rope_parameters": rope},
        vision_config={**tower, "num_heads": heads, "out_hidden_size": text["hidden_size"]},
    )
    config.save_pretrained(folder)
    config.text_config.num_hidden_layers = num_layers or text["num_hidden_layers"]
    with torch.device("meta"):
        network = ReasonerNetwork(config, 1)
    for number, tensors in enumerate(_files(network)):
        save_file(tensors, folder / f"model-{number:05d}.safetensors")


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _files(network: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Bfloat16 values of all parameters on the host, a few gigabytes at a time."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in network.named_parameters():
        tensors[name] = _drawn(name, parameter).cpu()
        if sum(value.nbytes for value in tensors.values()) > FILE_BYTES:
            yield tensors
            tensors = {}
    yield tensors


def _drawn(name: str, parameter: Any) -> torch.Tensor:
    """Ones for norms, zeros for biases, normal values of a sensible size for matrices."""
    options: dict[str, Any] = {"device": _device(), "dtype": torch.bfloat16}
    if parameter.ndim == 1:
        return torch.full(parameter.shape, 0.0 if name.endswith("bias") else 1.0, **options)
    return torch.randn(parameter.shape, **options) * (parameter.numel() // len(parameter)) ** -0.5
