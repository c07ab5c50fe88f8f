"""Generation on a device: compiled layers only round otherwise, layers on the host give equal latents in less memory.

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
MARGIN = 1.25
"""How much farther from float32 than eager layers in bfloat16 compiled ones may be: both round, at other places."""


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


def test_compiled_layers_are_as_near_to_float32_as_eager_ones() -> None:
    model = network("cuda")
    eager, exact = sampled(model), sampled(network("cuda").float())
    off = ActivationCheckpointing(mode="none")
    parallelize_layers(model.layers, ModelConfig(compile=Compile(enabled=True), activation_checkpointing=off))
    rounding, compiled = difference(eager, exact), difference(sampled(model), exact)
    assert 0 < compiled <= MARGIN * rounding
    assert compiled < 0.1, "rounding alone, which adds up over eight steps"


def test_layers_on_the_host_give_the_same_latents_in_less_memory() -> None:
    plain = sampled(network("cuda"))
    model = network("cpu")
    layers = sum(value.nbytes for value in model.layers.parameters())
    offload(model, torch.device("cuda"))
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    equal = torch.equal(sampled(model), plain)
    assert equal, "the same kernels on the same numbers"
    assert torch.cuda.max_memory_allocated() - before < layers / 2
