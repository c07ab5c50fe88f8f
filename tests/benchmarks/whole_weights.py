"""Random weights of a published size, written as a run finds them; drawn on the devices where there are some."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
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

FILE_BYTES = 2 * 2**30
WRITERS = 8
"""Processes at most."""

Build = Callable[[], nn.Module]
Write = Callable[[int, Iterator[tuple[str, torch.Tensor]]], None]


def write_generator_base(folder: Path, tier: str, num_layers: int | None) -> None:
    """A converted base of the first layers of a model size."""
    build = partial(_generator, tier, num_layers)
    count = _write_files(build, partial(_write_dcp, folder / "model"))
    DcpWriter(folder / "model").finish(count)
    write_base(folder, source_revision="random", config={})


def write_vae(folder: Path, *, small: bool) -> None:
    """A Wan 2.2 VAE; small: of a small width."""
    from diffusers import AutoencoderKLWan

    config = {**WAN_CONFIG, "base_dim": 8, "decoder_base_dim": 8} if small else WAN_CONFIG
    with torch.device(_device(0)):
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
    _write_files(partial(ReasonerNetwork, config, 1), partial(_write_safetensors, folder))


def _generator(tier: str, num_layers: int | None) -> nn.Module:
    return Cosmos3Network(VfmConfig(tier=tier, num_layers=num_layers).network)


def _write_dcp(folder: Path, number: int, tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
    DcpWriter(folder).write(number, ((f"net.{name}", value) for name, value in tensors), of="random")


def _write_safetensors(folder: Path, number: int, tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
    save_file(dict(tensors), folder / f"model-{number:05d}.safetensors")


def _write_files(build: Build, write: Write) -> int:
    """All parameters in files of a few gigabytes, written side by side; returns their number."""
    files = _files(build)
    if len(files) == 1:
        _write_file(build, write, 0)
        return 1
    writers = min(WRITERS, len(files), os.cpu_count() or 1)
    with ProcessPoolExecutor(writers, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_write_file, build, write), range(len(files))))
    return len(files)


def _files(build: Build) -> list[dict[str, nn.Parameter]]:
    """Parameters on the meta device, by file."""
    with torch.device("meta"):
        network = build()
    files: list[dict[str, nn.Parameter]] = [{}]
    size = 0
    for name, parameter in network.named_parameters():
        if size and size + 2 * parameter.numel() > FILE_BYTES:
            files.append({})
            size = 0
        files[-1][name] = parameter
        size += 2 * parameter.numel()
    return files


def _write_file(build: Build, write: Write, number: int) -> None:
    # Processes for one file each: threads of a process that has all cores would only stand in each other's way.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // WRITERS))
    torch.manual_seed(number)  # Whichever process writes it, so that losses of two machines can be compared.
    values = _files(build)[number]
    write(number, ((name, _drawn(name, parameter, _device(number)).cpu()) for name, parameter in values.items()))


def _device(number: int) -> str:
    return f"cuda:{number % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def _drawn(name: str, parameter: Any, device: str) -> torch.Tensor:
    """Bfloat16: ones for norms, zeros for biases, normal values of a sensible size for matrices."""
    options: dict[str, Any] = {"device": device, "dtype": torch.bfloat16}
    if parameter.ndim == 1:
        return torch.full(parameter.shape, 0.0 if name.endswith("bias") else 1.0, **options)
    return torch.randn(parameter.shape, **options) * (parameter.numel() // len(parameter)) ** -0.5
