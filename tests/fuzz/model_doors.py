"""Doors of published models: configurations, tokenizers, templates, processors, generators, video tokenizers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan

import cosmos_vlm
from cosmos_core.data import Chat, Message
from cosmos_vfm.checkpoints.convert import to_dcp
from cosmos_vfm.checkpoints.identify import looks_published
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.sizes import NetworkConfig
from cosmos_vfm.tokenizer.hub import hub_tokens
from cosmos_vfm.tokenizer.wan import WAN_CONFIG, WanVae
from cosmos_vlm.architecture import architecture_of
from cosmos_vlm.chat_processor import ChatProcessor
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.network import ReasonerNetwork
from cosmos_vlm.plugin import cosmos_identify_checkpoint
from cosmos_vlm.processor_files import pixel_limits
from cosmos_vlm.tokenizer import tokenizer_of
from cosmos_vlm.weights import read_index
from tests.fuzz.doors import Door, contents
from tests.tiny_reasoner import write_tokenizer

__all__ = ["model_doors"]

TINY = Path(cosmos_vlm.__file__).parent / "backbones/tiny"
DIALOG = Chat("a", (Message("user", ("hi",)), Message("assistant", ("yes",))))


def network(folder: Path) -> None:
    """The network of a backbone, without its weights."""
    cosmos_identify_checkpoint(folder)
    config = architecture_of(folder)
    with torch.device("meta"):
        ReasonerNetwork(config, 8)


def processor(folder: Path) -> None:
    """A dialog through a backbone's tokenizer, template and limits."""
    architecture = architecture_of(TINY)
    read_index(folder)
    limits = pixel_limits(VlmConfig(), folder)
    ChatProcessor(tokenizer_of(folder, architecture), limits).encode(DIALOG)


def generator(folder: Path) -> None:
    """Recognizes a published generator, and converts it."""
    looks_published(folder)
    to_dcp(folder, folder.parent / "out")


def words(folder: Path) -> None:
    """A caption through a text tokenizer."""
    hub_tokens(str(folder), "main").ids("a ball", 16)


def small_vae(folder: Path) -> AutoencoderKLWan:
    """The Wan VAE with few channels."""
    torch.manual_seed(0)
    vae = AutoencoderKLWan.from_config({**WAN_CONFIG, "base_dim": 2, "decoder_base_dim": 2})
    vae.save_pretrained(folder)
    return vae


def model_doors(folder: Path) -> Iterator[Door]:
    """All of them. folder: where their files are made."""
    tiny = contents(TINY)
    index = {"weight_map": {"model.a": "model-1.safetensors", "model.b": "model-2.safetensors"}}
    yield Door("reasoner's configuration", {"config.json": tiny["config.json"]}, network, 3)
    files = {**tiny, "model.safetensors.index.json": json.dumps(index).encode()}
    yield Door("reasoner's tokenizer", files, processor, 3)
    old = {name: content for name, content in tiny.items() if name != "chat_template.jinja"}
    template = json.dumps({"chat_template": tiny["chat_template.jinja"].decode()}).encode()
    yield Door("old reasoner's tokenizer", {**old, "chat_template.json": template}, processor, 2)
    write_tokenizer(folder / "words")
    yield Door("generator's text tokenizer", contents(folder / "words"), words, 3)
    small_vae(folder / "vae")
    yield Door("video tokenizer", contents(folder / "vae"), lambda path: WanVae.load(str(path), torch.float32), 1)
    from safetensors.torch import save

    small = Cosmos3Network(NetworkConfig(hidden=8, layers=1, heads=1, kv_heads=1, head_dim=16, mlp=8, vocab=8))
    tensors = {f"net.{name}": value.detach().clone() for name, value in small.state_dict().items()}
    published = {
        "model_index.json": b'{"vae": ["diffusers", "AutoencoderKLWan"]}',
        "transformer/config.json": b'{"_class_name": "Cosmos3OmniTransformer", "num_layers": 1}',
        "transformer/diffusion_pytorch_model.safetensors.index.json": json.dumps(
            {"metadata": {}, "weight_map": dict.fromkeys(tensors, "part-1.safetensors")}
        ).encode(),
        "transformer/part-1.safetensors": save(tensors),
        "vae/config.json": b"{}",
    }
    yield Door("published generator", published, generator, 4)
    single = {"diffusion_pytorch_model.safetensors": save(tensors), "config.json": b"{}"}
    yield Door("bare generator", single, generator, 2)
