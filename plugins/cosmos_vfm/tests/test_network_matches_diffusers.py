"""The network against diffusers' Cosmos3OmniTransformer on the same weights, and packed against one by one."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from attrs import evolve

from cosmos_vfm.checkpoints.names import from_diffusers, to_diffusers
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.network.patches import patchify, unpatchify
from cosmos_vfm.packing import SequenceSpec, pack_inputs
from cosmos_vfm.sizes import MODEL_SIZES, NetworkConfig
from tests.generator_oracle import oracle_of, oracle_velocity

QWEN = NetworkConfig(hidden=64, layers=3, heads=4, kv_heads=2, head_dim=128, mlp=96, vocab=512)
NEMOTRON = evolve(
    QWEN,
    gated_mlp=False,
    float_norm=True,
    text_qk_norm=False,
    text_k_norm_for_generation=True,
    eps=1e-5,
    rope_theta=1e8,
)
GENERATION = ("moe_gen", "time_embedder", "vae2llm", "llm2vae", "k_norm_und_for_gen")
SPECS = {
    "image": SequenceSpec(tuple(range(3, 12)), (1, 4, 6), 24.0, 0),
    "text to video": SequenceSpec(tuple(range(40, 61)), (5, 4, 4), 5.0, 0),
    "image to video": SequenceSpec(tuple(range(7, 20)), (3, 6, 4), 30.0, 1),
    "video to video": SequenceSpec(tuple(range(100, 131)), (4, 4, 8), 16.0, 2),
    "odd sides": SequenceSpec(tuple(range(5, 9)), (2, 5, 7), 10.0, 0),
}


def randomised(config: NetworkConfig) -> Cosmos3Network:
    torch.manual_seed(0)
    network = Cosmos3Network(config)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.2)
        else:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return network.eval()


def latents_of(spec: SequenceSpec, seed: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, 48, *spec.shape), generator=generator).to(dtype)


def velocities(network: Cosmos3Network, specs: list[SequenceSpec], latents: list[torch.Tensor], sigmas: list[float]):
    """Velocities of all samples, packed together."""
    tokens = torch.cat([patchify(part)[0] for part in latents])
    out = network(tokens, torch.tensor(sigmas), pack_inputs(specs))
    parts = out.split([spec.latent_tokens for spec in specs])
    return [unpatchify(part[None], tuple(latent.shape[1:])) for part, latent in zip(parts, latents, strict=True)]


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


@pytest.mark.parametrize("config", [QWEN, NEMOTRON], ids=["qwen", "nemotron"])
@pytest.mark.parametrize("kind", SPECS)
def test_velocity_equals_the_oracle(config: NetworkConfig, kind: str) -> None:
    network, spec = randomised(config), SPECS[kind]
    latents = latents_of(spec, 1, torch.float32)
    with torch.no_grad():
        expected = oracle_velocity(oracle_of(network), spec, latents, 0.7)
        actual = velocities(network, [spec], [latents], [0.7])[0]
    assert expected.std() > 0.1
    assert relative(actual, expected) <= 1e-5


@pytest.mark.parametrize("config", [QWEN, NEMOTRON], ids=["qwen", "nemotron"])
@pytest.mark.parametrize("kind", SPECS)
def test_velocity_equals_the_oracle_in_bfloat16(config: NetworkConfig, kind: str) -> None:
    network, spec = randomised(config).to(torch.bfloat16), SPECS[kind]
    oracle = oracle_of(network.float()).to(torch.bfloat16)
    frequencies = oracle_of(network).rotary_emb.inv_freq
    oracle.rotary_emb.inv_freq = frequencies
    network = network.to(torch.bfloat16)
    latents = latents_of(spec, 1, torch.bfloat16)
    with torch.no_grad():
        expected = oracle_velocity(oracle, spec, latents, 0.3)
        actual = velocities(network, [spec], [latents], [0.3])[0]
    assert relative(actual, expected) <= 2e-2


@pytest.mark.parametrize("config", [QWEN, NEMOTRON], ids=["qwen", "nemotron"])
@pytest.mark.parametrize("order", list(permutations(range(5)))[::17])
def test_packed_equals_one_by_one_in_any_order(order: tuple[int, ...], config: NetworkConfig) -> None:
    network = randomised(config)
    specs = [list(SPECS.values())[index] for index in order]
    latents = [latents_of(spec, index, torch.float32) for index, spec in zip(order, specs, strict=True)]
    sigmas = [0.1 + 0.2 * index for index in order]
    with torch.no_grad():
        packed = velocities(network, specs, latents, sigmas)
        for spec, latent, sigma, together in zip(specs, latents, sigmas, packed, strict=True):
            alone = velocities(network, [spec], [latent], [sigma])[0]
            assert relative(together, alone) <= 1e-5


def test_long_samples_equal_the_oracle_too() -> None:
    """Too many tokens for one padded batch, so samples run one by one."""
    network = randomised(QWEN)
    specs = [SequenceSpec(tuple(range(200)), (7, 16, 16), 24.0, 1), SPECS["text to video"]]
    latents = [latents_of(spec, index, torch.float32) for index, spec in enumerate(specs)]
    with torch.no_grad():
        packed = velocities(network, specs, latents, [0.6, 0.2])
        oracle = oracle_of(network)
        for spec, latent, sigma, actual in zip(specs, latents, (0.6, 0.2), packed, strict=True):
            assert relative(actual, oracle_velocity(oracle, spec, latent, sigma)) <= 1e-5


def test_gradients_equal_the_oracle() -> None:
    network, spec = randomised(QWEN), SPECS["image to video"]
    oracle, latents = oracle_of(network), latents_of(SPECS["image to video"], 3, torch.float32)
    velocities(network, [spec], [latents], [0.5])[0].square().sum().backward()
    oracle_velocity(oracle, spec, latents, 0.5).square().sum().backward()
    ours = {to_diffusers(name): parameter.grad for name, parameter in network.named_parameters()}
    compared = 0
    for name, parameter in oracle.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            actual = ours[name]
            assert actual is None or not actual.any(), name
            continue
        assert relative(ours[name], parameter.grad) <= 1e-4, name
        compared += 1
    assert compared > 60


def test_frozen_text_tower_gets_no_gradient_and_the_rest_the_same() -> None:
    spec, latents = SPECS["text to video"], latents_of(SPECS["text to video"], 3, torch.float32)
    gradients = []
    for frozen in (False, True):
        network = randomised(NEMOTRON)
        for name, parameter in network.named_parameters():
            trains = any(
                key in name for key in ("moe_gen", "time_embedder", "vae2llm", "llm2vae", "k_norm_und_for_gen")
            )
            parameter.requires_grad_(trains or not frozen)
        velocities(network, [spec], [latents], [0.5])[0].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in gradients[1].items():
        if gradient is not None:
            assert torch.allclose(gradient, gradients[0][name], rtol=1e-5, atol=1e-6), name
    assert all(gradient is None for name, gradient in gradients[1].items() if "q_proj.weight" in name)


@pytest.mark.parametrize(
    ("model_size", "total", "generation", "tensors"),
    [
        ("edge", 3_361_198_784, 1_414_924_992, 544),
        ("nano", 15_156_222_144, 6_965_486_784, 804),
        ("super", 63_997_928_640, 31_235_805_376, 1420),
    ],
)
def test_released_sizes_have_the_released_number_of_parameters(
    model_size: str, total: int, generation: int, tensors: int
) -> None:
    with torch.device("meta"):
        network = Cosmos3Network(MODEL_SIZES[model_size])
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}

    assert sum(sizes.values()) == total
    assert len(sizes) == tensors
    assert sum(size for name, size in sizes.items() if any(key in name for key in GENERATION)) == generation


def test_names_round_trip() -> None:
    with torch.device("meta"):
        names = [name for name, _ in Cosmos3Network(MODEL_SIZES["edge"]).named_parameters()]
    assert [from_diffusers(to_diffusers(name)) for name in names] == names
    assert len({to_diffusers(name) for name in names}) == len(names)


def test_bfloat16_gradients_stay_near_the_float32_ones() -> None:
    """Bound: 3 % of each tensor's norm; sums over thousands of tokens must not run in bfloat16."""
    spec = SequenceSpec(tuple(range(64)), (8, 20, 24), 24.0, 0)
    latents, gradients = latents_of(spec, 3, torch.float32), []
    for dtype in (torch.float32, torch.bfloat16):
        network = randomised(QWEN).to(torch.bfloat16).to(dtype)
        velocities(network, [spec, spec], [latents.to(dtype)] * 2, [0.5, 0.3])[0].float().square().mean().backward()
        gradients.append(
            {name: value.grad.float() for name, value in network.named_parameters() if value.grad is not None}
        )
    exact, rounded = gradients
    for name, value in exact.items():
        if value.norm() > 1e-3 * max(other.norm() for other in exact.values()):
            assert relative(rounded[name], value) <= 3e-2, name
