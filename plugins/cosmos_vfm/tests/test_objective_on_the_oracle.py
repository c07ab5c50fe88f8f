"""The training loss and its gradients against formulas written out around diffusers' network."""

from __future__ import annotations

import math

import pytest
import torch

from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.data import Item, VideoText
from cosmos_core.distributed import CounterRng
from cosmos_core.optim import select_trainable
from cosmos_core.train import BuildContext
from cosmos_core.train.weights import initialise_rest
from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.config import Flow, TextTokenizer, VfmConfig, VideoTokenizer
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.network import Cosmos3Network
from tests.generator_oracle import oracle_of, oracle_velocity

TRAINED = ("moe_gen", "time_embedder", "vae2llm", "llm2vae")
EDGE_ONLY = "k_norm_und_for_gen"
FIRST = 11
"""Position of the first sample; it keys sigma and noise."""


def clip(frames: int, height: int, width: int, condition_frames: int, seed: int) -> VideoText:
    video = torch.randint(0, 256, (3, frames, height, width), generator=torch.Generator().manual_seed(seed))
    return VideoText(
        f"clip{seed}", video.to(torch.uint8), f"clip number {seed}", (5.0, 24.0, 29.97)[seed % 3], condition_frames
    )


SAMPLES = [
    clip(17, 64, 64, 0, 0),  # text to video
    clip(1, 64, 32, 0, 1),  # text to image
    clip(5, 32, 64, 1, 2),  # image to video
    clip(9, 288, 32, 2, 3),  # video to video
    clip(5, 320, 272, 0, 4),  # a side above 256 pixels: another shift
]


def family_of(model_size: str, **flow: object) -> tuple[VfmFamily, Cosmos3Network]:
    config = VfmConfig(
        tier=model_size,
        init="random",
        precision="float32",
        tokenizer=VideoTokenizer(type="block_dct"),
        text_tokenizer=TextTokenizer(type="words"),
        flow=Flow(**flow),
    )
    data = DataloaderConfig(dataset=DatasetConfig(type="none"), max_samples_per_batch=8)
    family = VfmFamily(config, BuildContext(device=torch.device("cpu"), data=data))
    network = family.build()
    initialise_rest(network, family, CounterRng(3))
    select_trainable(network, (*TRAINED, EDGE_ONLY) if model_size == "tiny_edge" else TRAINED)
    return family, network


def sigma_of(sample: VideoText, rng: CounterRng, position: int, flow: Flow) -> float:
    """Waver for videos, logit-normal for images, then the time shift of the resolution."""
    generator = rng.generator("sigma", position)
    frames, height, width = sample.video.shape[1:]
    by_frames = flow.image_distribution if frames == 1 else flow.video_distribution
    if by_frames == "waver":
        u = float(torch.rand((), generator=generator))
        t = 1 - u - 1.29 * (math.cos(math.pi * u / 2) ** 2 - 1 + u)
    else:
        t = 1 / (1 + math.exp(-float(torch.randn((), generator=generator))))
    shift = 3.0 if min(height, width) <= 256 else 5.0
    return shift * t / (1 + (shift - 1) * t)


def written_out(family: VfmFamily, network: Cosmos3Network) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients under our names, sample by sample, from the velocity of the oracle."""
    flow, rng, oracle = family.config.flow, CounterRng(9), oracle_of(network)
    total = torch.zeros(())
    for position, sample in enumerate(SAMPLES, start=FIRST):
        latents = family.video_tokenizer.encode(sample.video[None])
        sigma = sigma_of(sample, rng, position, flow)
        noise = torch.randn(latents.shape[1:], generator=rng.generator("noise", position))[None]
        mask = torch.ones(latents.shape[2])
        mask[: sample.condition_frames] = 0
        mask = mask[None, None, :, None, None]
        noised = (1 - sigma * mask) * latents + sigma * mask * noise
        velocity = oracle_velocity(oracle, family.prepare(sample).spec, noised, sigma)
        item = ((velocity - (noise - latents)) ** 2 * mask).mean()
        if flow.normalize_loss_by_active:
            item = item / mask.mean()
        image = flow.loss_scale if flow.image_loss_scale is None else flow.image_loss_scale
        total = total + item * (image if latents.shape[2] == 1 else flow.loss_scale)
    total.backward()
    parameters = dict(oracle.named_parameters())
    return total.detach(), {name: parameters[to_diffusers(name)].grad for name, _ in network.named_parameters()}


@pytest.mark.parametrize(
    "flow",
    [
        {},
        {"loss_scale": 10.0, "image_loss_scale": 2.0},
        {"normalize_loss_by_active": True, "video_distribution": "logitnormal", "image_distribution": "waver"},
    ],
    ids=["as shipped", "scaled", "by active frames"],
)
@pytest.mark.parametrize("model_size", ["tiny", "tiny_edge"])
def test_loss_and_every_trained_gradient_equal_the_formulas_on_the_oracle(
    model_size: str, flow: dict[str, object]
) -> None:
    """Bounds: 1e-5 for the loss, 1e-4 of each tensor's norm for its gradient, in float32."""
    family, network = family_of(model_size, **flow)
    items = [Item(position, family.prepare(sample)) for position, sample in enumerate(SAMPLES, start=FIRST)]
    loss = family.training_step(network, family.collate(items), CounterRng(9)).loss
    loss.backward()
    expected, gradients = written_out(family, network)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        assert any(key in name for key in (*TRAINED, EDGE_ONLY)), name
        assert gradients[name].norm() > 0, name
        assert float((parameter.grad - gradients[name]).norm()) <= 1e-4 * float(gradients[name].norm()), name
