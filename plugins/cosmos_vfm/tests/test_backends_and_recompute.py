"""Attention backends agree, recomputation changes nothing, the frozen tower runs forward once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from attrs import evolve

from cosmos_core.attention import attention_with_lse, kernels, merge_attentions
from cosmos_core.config import ActivationCheckpointing, Compile
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.network import Cosmos3Network, three_way
from cosmos_vfm.network.flex import Flex
from cosmos_vfm.network.three_way import ThreeWay
from cosmos_vfm.packing import SequenceSpec, pack_inputs
from cosmos_vfm.parallel import parallelize_layers
from cosmos_vfm.sizes import NetworkConfig

QWEN = NetworkConfig(hidden=64, layers=3, heads=4, kv_heads=2, head_dim=64, mlp=96, vocab=512)
NEMOTRON = evolve(QWEN, gated_mlp=False, float_norm=True, text_qk_norm=False, text_k_norm_for_generation=True)
GENERATION = ("moe_gen", "time_embedder", "vae2llm", "llm2vae", "k_norm_und_for_gen")
MIXED = (
    SequenceSpec(tuple(range(3, 12)), (1, 4, 6), 24.0, 0),
    SequenceSpec(tuple(range(40, 61)), (5, 4, 4), 5.0, 0),
    SequenceSpec(tuple(range(7, 20)), (3, 6, 4), 30.0, 1),
)
EQUAL = (MIXED[1], MIXED[1])
LONG = (SequenceSpec(tuple(range(300)), (7, 20, 16), 24.0, 1), MIXED[0])


def network_of(config: NetworkConfig, backend: str = "two_way", *, freeze: bool = True) -> Cosmos3Network:
    torch.manual_seed(0)
    network = Cosmos3Network(config, backend)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.2)
        else:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        parameter.requires_grad_(not freeze or any(key in name for key in GENERATION))
    return network


def pass_through(
    network: Cosmos3Network, samples: tuple[SequenceSpec, ...]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Velocity and gradients of one micro-batch."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(sum(sample.latent_tokens for sample in samples), 192, generator=generator)
    sigma = torch.linspace(0.2, 0.8, len(samples))
    velocity = network(tokens, sigma, pack_inputs(samples))
    velocity.square().sum().backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    return velocity.detach(), gradients


def assert_same(actual: tuple, expected: tuple, bound: float) -> None:
    for ours, theirs in ((actual[0], expected[0]), *((actual[1][name], expected[1][name]) for name in expected[1])):
        assert float((ours - theirs).norm()) <= bound * float(theirs.norm()) + 1e-12
    assert actual[1].keys() == expected[1].keys()


@pytest.mark.parametrize("samples", [MIXED, EQUAL, LONG], ids=["mixed", "equal", "long"])
@pytest.mark.parametrize("config", [QWEN, NEMOTRON], ids=["qwen", "nemotron"])
@pytest.mark.parametrize("backend", ["three_way", "flex"])
def test_every_backend_gives_the_two_way_result(
    backend: str, config: NetworkConfig, samples: tuple[SequenceSpec, ...]
) -> None:
    """Bound: 1e-5 relative in float32, forward and for the gradient of every trained tensor."""
    assert_same(pass_through(network_of(config, backend), samples), pass_through(network_of(config), samples), 1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile", "ignore:return_lse is deprecated")
def test_three_way_gives_the_same_with_and_without_natten() -> None:
    """NATTEN on the CPU, without a backward pass; tests/gpu runs its kernels."""
    sequences = pack_inputs(MIXED).sequences
    torch.manual_seed(0)
    text, latents = sum(sequences.text.lengths), sum(sequences.latents.lengths)
    q, text_kv = torch.randn(latents, 4, 64), (torch.randn(text, 2, 64), torch.randn(text, 2, 64))
    latent_kv = torch.randn(latents, 2, 64), torch.randn(latents, 2, 64)
    backend = ThreeWay(sequences)
    ours = backend.attend_latents(q, text_kv, latent_kv)
    backend._attend_and_merge = three_way.natten_attention
    torch.testing.assert_close(backend.attend_latents(q, text_kv, latent_kv), ours, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("samples", [MIXED, EQUAL, LONG], ids=["mixed", "equal", "long"])
def test_flex_attention_gives_the_result_of_a_dense_mask(samples: tuple[SequenceSpec, ...]) -> None:
    """FlexAttention itself, as it runs on an accelerator; on the CPU without a backward pass."""
    sequences = pack_inputs(samples).sequences
    torch.manual_seed(0)
    text, latents = sum(sequences.text.lengths), sum(sequences.latents.lengths)
    q, text_kv = torch.randn(latents, 4, 64), (torch.randn(text, 2, 64), torch.randn(text, 2, 64))
    latent_kv = torch.randn(latents, 2, 64), torch.randn(latents, 2, 64)
    dense, blocks = (Flex(sequences, flex=flex) for flex in (False, True))
    actual = blocks.attend_latents(q, text_kv, latent_kv)
    torch.testing.assert_close(actual, dense.attend_latents(q, text_kv, latent_kv), rtol=1e-5, atol=1e-6)


def test_merged_attentions_are_the_attention_over_both() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(9, 4, 16), torch.randn(14, 2, 16), torch.randn(14, 2, 16)
    whole, weight = attention_with_lse(q, k, v)
    parts = [attention_with_lse(q, k[a:b], v[a:b]) for a, b in pairwise((0, 5, 14))]
    torch.testing.assert_close(merge_attentions(parts[0], parts[1]), whole)
    torch.testing.assert_close(torch.logaddexp(parts[0][1], parts[1][1]), weight)


@pytest.mark.parametrize("frozen", [True, False], ids=["text frozen", "all trained"])
@pytest.mark.parametrize(("mode", "share"), [("full", 1.0), ("selective", 1.0), ("selective", 0.5)])
def test_recomputation_changes_no_bit(mode: str, share: float, frozen: bool) -> None:
    plain = pass_through(network_of(QWEN, freeze=frozen), MIXED)
    network = network_of(QWEN, freeze=frozen)
    recompute = ActivationCheckpointing(mode=mode, share=share)
    parallelize_layers(network.layers, VfmConfig(activation_checkpointing=recompute))
    again = pass_through(network, MIXED)
    assert torch.equal(again[0], plain[0])
    assert all(torch.equal(again[1][name], plain[1][name]) for name in plain[1])


@pytest.mark.parametrize(("mode", "share"), [("full", 1.0), ("selective", 1.0), ("selective", 0.5)])
def test_the_frozen_tower_runs_once_while_the_trained_one_is_recomputed(mode: str, share: float) -> None:
    network = network_of(QWEN)
    calls: Counter[str] = Counter()
    for layer in network.layers:
        for tower, module in (("text", layer.mlp), ("latents", layer.mlp_moe_gen)):
            module.register_forward_pre_hook(lambda *_, tower=tower: calls.update([tower]))
    recompute = ActivationCheckpointing(mode=mode, share=share)
    parallelize_layers(network.layers, VfmConfig(activation_checkpointing=recompute))
    _, gradients = pass_through(network, MIXED)
    # The last layer's text output is read by nobody and not computed.
    assert calls == {"text": QWEN.layers - 1, "latents": QWEN.layers + round(share * QWEN.layers)}
    assert all(any(key in name for key in GENERATION) for name in gradients)


def test_which_kernel_runs_depends_on_the_pack_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on what the process met before, of which a resumed run knows nothing."""
    requests: list[object] = []
    attend = kernels.scaled_dot_product_attention

    def noted(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
        requests.append((*(x.shape for x in tensors), {name: str(value) for name, value in options.items()}))
        return attend(*tensors, **options)

    monkeypatch.setattr(kernels, "scaled_dot_product_attention", noted)
    network = network_of(QWEN)
    for samples in (LONG, EQUAL, MIXED):
        pass_through(network, samples)
        first = requests.copy()
        assert len(first) >= QWEN.layers
        requests.clear()
        pass_through(network, samples)
        assert requests == first
        requests.clear()


def test_compiled_regions_give_the_same_result_and_take_any_lengths() -> None:
    """Bound: 1e-5 relative, since fused kernels round differently. Other lengths compile nothing again."""
    network = network_of(QWEN)
    parallelize_layers(network.layers, VfmConfig(compile=Compile(enabled=True)))
    assert_same(pass_through(network, MIXED), pass_through(network_of(QWEN), MIXED), 1e-5)
    network.zero_grad()
    with torch.compiler.set_stance("fail_on_recompile"):
        assert_same(pass_through(network, MIXED[:2]), pass_through(network_of(QWEN), MIXED[:2]), 1e-5)


def test_compiled_layers_save_gate_and_projection_but_not_their_product() -> None:
    """Nor the normed states: tensors that one pass over saved ones can recompute are not saved."""
    network = network_of(QWEN)
    parallelize_layers(
        network.layers,
        VfmConfig(compile=Compile(enabled=True), activation_checkpointing=ActivationCheckpointing(mode="none")),
    )
    pass_through(network, EQUAL)
    network.zero_grad()
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        tokens = sum(sample.latent_tokens for sample in EQUAL)
        network(torch.randn(tokens, 192), torch.tensor([0.3, 0.6]), pack_inputs(EQUAL))
    sizes = Counter(saved.values())
    assert sizes[tokens * QWEN.mlp] == 2 * QWEN.layers
