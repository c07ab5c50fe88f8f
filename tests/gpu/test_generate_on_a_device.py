"""Generation on a device: compiled layers and layers on the host give the same latents, the latter in less memory.

Run it where there is one: ``python -m pytest tests/gpu``.
"""

from __future__ import annotations

import pytest
import torch

from cosmos_core.config import ActivationCheckpointing, Compile, ModelConfig
from cosmos_vfm.config import TextTokenizer
from cosmos_vfm.generate.offload import offload
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.parallel import parallelize_layers
from cosmos_vfm.sampling import SampleRequest, SolverSettings, sample_latents
from cosmos_vfm.sizes import NetworkConfig
from cosmos_vfm.tokenizer import build_text_tokenizer
from cosmos_vfm.tokenizer.block_dct import BlockDct
from tests.benchmarks.running import fill

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here, which tests/gpu needs"),
]
NETWORK = NetworkConfig(hidden=1024, layers=12, heads=8, kv_heads=4, head_dim=128, mlp=4096, vocab=512)
BOUND = 2e-2
"""Relative difference in bfloat16 after eight steps."""


def network(device: str) -> Cosmos3Network:
    with torch.device("meta"):
        model = Cosmos3Network(NETWORK).to(torch.bfloat16)
    model.to_empty(device="cuda")
    fill(model)
    return model.to(device).eval().requires_grad_(False)


def sampled(model: Cosmos3Network) -> torch.Tensor:
    solver = SolverSettings(8, 6.0, 10.0)
    request = SampleRequest("a red ball", 93, 192, 320, 24.0, negative="blurred " * 100, seed=1, solver=solver)
    text = build_text_tokenizer(TextTokenizer(type="words"), NETWORK)
    device = torch.device("cuda")
    latents = sample_latents(model, [request], text=text, video_tokenizer=BlockDct(), device=device, limit=4096)
    return next(iter(latents))


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_compiled_layers_give_the_same_latents() -> None:
    model = network("cuda")
    plain = sampled(model)
    off = ActivationCheckpointing(mode="none")
    parallelize_layers(model.layers, ModelConfig(compile=Compile(enabled=True), activation_checkpointing=off))
    assert difference(sampled(model), plain) < BOUND


def test_layers_on_the_host_give_the_same_latents_in_less_memory() -> None:
    plain = sampled(network("cuda"))
    model = network("cpu")
    layers = sum(value.nbytes for value in model.layers.parameters())
    offload(model, torch.device("cuda"))
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    assert difference(sampled(model), plain) < BOUND
    assert torch.cuda.max_memory_allocated() - before < layers / 2
