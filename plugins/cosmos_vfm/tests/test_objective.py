"""Positions, sigmas, interpolation, loss and sampling schedule, by the specification's vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.data import Item, UnreadableSample, VideoText
from cosmos_core.distributed import CounterRng
from cosmos_core.errors import UserError
from cosmos_core.train import BuildContext
from cosmos_core.train.weights import initialise_rest
from cosmos_vfm.config import Flow, Validation, VfmConfig
from cosmos_vfm.config import TextTokenizer as TextConfig
from cosmos_vfm.config import VideoTokenizer as VideoConfig
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.flow.objective import frame_noise_mask, interpolate, item_losses
from cosmos_vfm.flow.sigmas import draw_sigma, inverse_cdf, resolution_key, shift_for, time_shift
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.network.patches import patchify, unpatchify
from cosmos_vfm.network.time import time_features
from cosmos_vfm.packing import SequenceSpec, latent_positions, pack_inputs, round_fps
from cosmos_vfm.sampling import SampleRequest, build_solver


@pytest.mark.parametrize(
    ("u", "t"), [(0, 1), (0.1, 0.802568), (0.25, 0.616416), (0.5, 0.5), (0.75, 0.383584), (0.9, 0.197431), (1, 0)]
)
def test_waver_inverse_cdf_has_the_reference_values(u: float, t: float) -> None:
    assert float(inverse_cdf(torch.tensor(float(u)), "waver")) == pytest.approx(t, abs=1e-6)


@pytest.mark.parametrize(("u", "t"), [(0.1, 0.975991), (0.25, 0.941417), (0.5, 0.909091), (0.9, 0.710982)])
def test_shift_ten_has_the_reference_values(u: float, t: float) -> None:
    assert float(time_shift(inverse_cdf(torch.tensor(u), "waver"), 10.0)) == pytest.approx(t, abs=1e-6)


@pytest.mark.parametrize(
    ("distribution", "shift", "expected"),
    [
        ("waver", 3.0, (0.262, 0.650, 0.750, 0.828, 0.963)),
        ("waver", 10.0, (0.545, 0.862, 0.909, 0.941, 0.988)),
        ("logitnormal", 1.0, (0.161, 0.337, 0.499, 0.662, 0.838)),
        ("logitnormal", 5.0, (0.492, 0.719, 0.833, 0.907, 0.963)),
    ],
)
def test_drawn_sigmas_have_the_reference_distribution(
    distribution: str, shift: float, expected: tuple[float, ...]
) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [draw_sigma(distribution, shift, generator) for _ in range(20_000)]
    assert np.quantile(draws, [0.05, 0.25, 0.5, 0.75, 0.95]) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize(
    ("size", "key"),
    [((320, 192), "256"), ((256, 256), "256"), ((832, 480), "480"), ((640, 640), "480"), ((1280, 720), "720")],
)
def test_shift_follows_the_pixel_size(size: tuple[int, int], key: str) -> None:
    assert resolution_key(*size) == key
    assert shift_for(Flow().shift, *size) == {"256": 3.0, "480": 5.0, "720": 10.0}[key]


def test_every_size_has_the_key_of_its_short_side_but_for_those_of_768() -> None:
    listed = [(1024, 1024), (1184, 880), (880, 1184), (1360, 768), (768, 1360)]
    assert [resolution_key(*size) for size in listed] == ["768"] * 5
    assert [resolution_key(width + 16, height) for width, height in listed] == ["768", "720", "720", "720", "720"]
    assert [resolution_key(width, height + 16) for width, height in listed] == ["768", "720", "720", "720", "720"]
    ends = {256: "256", 257: "480", 640: "480", 641: "720", 960: "720", 961: "768", 2048: "768"}
    for short, key in ends.items():
        assert resolution_key(short, short) == resolution_key(short, 4000) == resolution_key(4000, short) == key
    with pytest.raises(UserError, match="2049x2050"):
        shift_for(Flow().shift, 2049, 2050)


def test_every_size_has_a_shift_whatever_the_table_leaves_out() -> None:
    assert resolution_key(1360, 768) == "768"
    assert shift_for(Flow().shift, 1360, 768) == 10.0
    assert shift_for({"720": 7.0}, 1360, 768) == 7.0
    assert shift_for({"720": 7.0, "768": 8.0}, 1360, 768) == 8.0
    assert shift_for({"256": 4.0}, 832, 480) == 5.0


def test_interpolation_keeps_condition_frames_clean() -> None:
    latents, noise = torch.full((1, 1, 2, 1, 1), 3.0), torch.full((1, 1, 2, 1, 1), -1.0)
    noised, target = interpolate(latents, noise, torch.tensor([0.25]), frame_noise_mask(torch.tensor([1]), 2))
    assert noised.flatten().tolist() == [3, 2]
    assert target.flatten().tolist() == [-4, -4]


def test_condition_frames_stay_in_the_denominator_unless_normalized_by_active_frames() -> None:
    target, noise_mask = torch.full((1, 4, 3, 2, 2), 2.0), frame_noise_mask(torch.tensor([1]), 3)
    assert float(item_losses(torch.zeros_like(target), target, noise_mask, by_active=False)) == pytest.approx(
        2.66667, 1e-5
    )
    assert float(item_losses(torch.zeros_like(target), target, noise_mask, by_active=True)) == pytest.approx(4.0)


def test_every_item_has_its_own_mean_over_its_own_active_frames() -> None:
    error = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None, None].expand(3, 4, 3, 2, 2)
    noise_mask = frame_noise_mask(torch.tensor([0, 1, 2]), 3)
    for by_active, expected in ((True, [1, 4, 9]), (False, [1, 8 / 3, 3])):
        losses = item_losses(error, torch.zeros_like(error), noise_mask, by_active=by_active)
        assert losses.tolist() == pytest.approx(expected)


def test_time_features_have_the_reference_values() -> None:
    features = time_features(torch.tensor([0.7]))[0]
    cosines = {0: 0.764842, 1: 0.795236, 2: 0.821833, 63: 0.999972, 127: 1.0}
    sines = {128: 0.644218, 129: 0.606301, 130: 0.569728, 191: 0.007522}
    for index, value in {**cosines, **sines}.items():
        assert float(features[index]) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("fps", "frames", "times"),
    [(30.0, 4, (0, 0.7998, 1.5996, 2.4004)), (5.0, 3, (0, 4.8, 9.6)), (24.0, 3, (0, 1, 2)), (29.97, 2, (0, 0.8))],
)
def test_time_positions_follow_the_frame_rate(fps: float, frames: int, times: tuple[float, ...]) -> None:
    actual = latent_positions((frames, 2, 2), fps)[0].tolist()
    assert actual == pytest.approx(times, abs=5e-4)


def test_positions_restart_in_every_sample() -> None:
    spec = SequenceSpec((1, 2, 3), (2, 4, 6), 24.0, 1)
    inputs = pack_inputs([spec, spec])
    assert inputs.text_positions.tolist() == [[0, 1, 2, 0, 1, 2]] * 3
    first, second = inputs.latent_positions.chunk(2, dim=1)
    assert torch.equal(first, second)
    assert first[0].tolist() == [15003.0] * 6 + [15004.0] * 6
    assert first[1].tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert first[2].tolist() == [0, 1, 2] * 4
    assert inputs.noise_mask.tolist() == ([False] * 6 + [True] * 6) * 2


def test_frame_rates_are_rounded_as_in_the_base_models() -> None:
    assert round_fps(29.97) == 30.0
    assert round_fps(5.0) == 5.0


@given(batch=st.integers(1, 2), frames=st.integers(1, 3), height=st.integers(1, 7), width=st.integers(1, 7))
@settings(deadline=None)
def test_patches_round_trip_at_any_size(batch: int, frames: int, height: int, width: int) -> None:
    latents = torch.randn(batch, 3, frames, height, width)
    assert torch.equal(unpatchify(patchify(latents), tuple(latents.shape[1:])), latents)


@pytest.mark.parametrize(
    ("steps", "shift", "start", "end"),
    [(35, 10.0, [999, 996, 993, 990, 987], [483, 377, 227]), (50, 3.0, [999, 992, 985, 978], [160, 111, 57])],
)
def test_solver_steps_through_the_native_schedule(steps: int, shift: float, start: list[int], end: list[int]) -> None:
    timesteps = build_solver(steps, shift).timesteps.tolist()
    assert len(timesteps) == steps
    assert timesteps[: len(start)] == start
    assert timesteps[-len(end) :] == end


def family(validation: Validation | None = None, **flow: object) -> tuple[VfmFamily, Cosmos3Network]:
    config = VfmConfig(
        tier="tiny",
        precision="float32",
        tokenizer=VideoConfig(type="block_dct"),
        text_tokenizer=TextConfig(type="words"),
        flow=Flow(**flow),
        validation=validation or Validation(),
    )
    data = DataloaderConfig(dataset=DatasetConfig(type="none"), max_samples_per_batch=4)
    built = VfmFamily(config, BuildContext(device=torch.device("cpu"), data=data))
    network = built.build()
    initialise_rest(network, built, CounterRng(3))
    return built, network


def initialised(validation: Validation | None = None, **flow: object) -> tuple[VfmFamily, Cosmos3Network]:
    built, network = family(validation, **flow)
    from cosmos_vfm.initialise import initialise

    initialise(network, CounterRng(3), 4, dict(network.named_parameters()))
    return built, network


def sample(frames: int, height: int, width: int, condition_frames: int, seed: int = 0) -> VideoText:
    video = torch.randint(0, 256, (3, frames, height, width), generator=torch.Generator().manual_seed(seed))
    return VideoText(f"clip{seed}", video.to(torch.uint8), '{"color": "red"}', 5.0, condition_frames)


MIXED = [sample(17, 64, 64, 0, 0), sample(1, 64, 32, 0, 1), sample(5, 32, 64, 1, 2), sample(9, 32, 32, 2, 3)]


def loss_of(built: VfmFamily, network: Cosmos3Network, samples: list[VideoText], first: int = 0) -> torch.Tensor:
    items = [Item(first + index, built.prepare(one)) for index, one in enumerate(samples)]
    return built.training_step(network, built.collate(items), CounterRng(9)).loss.detach()


def test_the_loss_of_a_mixed_batch_is_the_sum_over_its_samples() -> None:
    built, network = initialised()
    together = loss_of(built, network, MIXED)
    alone = sum(loss_of(built, network, [one], index) for index, one in enumerate(MIXED))
    assert float(together) == pytest.approx(float(alone), rel=1e-5)


def test_the_loss_equals_a_plain_derivation() -> None:
    """Noise, sigma, velocity and mean, written out."""
    built, network = initialised(loss_scale=2.0)
    one, rng = MIXED[2], CounterRng(9)
    prepared = built.prepare(one)
    latents = built.video_tokenizer.encode(one.video[None])
    sigma = draw_sigma("waver", 3.0, rng.generator("sigma", 5))
    noise = torch.randn(latents.shape[1:], generator=rng.generator("noise", 5))[None]
    noised = latents.clone()
    noised[:, :, 1:] = (1 - sigma) * latents[:, :, 1:] + sigma * noise[:, :, 1:]
    tokens = patchify(noised)[0]
    predicted = unpatchify(
        network(tokens, torch.tensor([sigma]), pack_inputs([prepared.spec]))[None], tuple(latents.shape[1:])
    )
    error = (predicted - (noise - latents)).square()
    error[:, :, 0] = 0
    expected = 2.0 * error.mean()
    assert float(loss_of(built, network, [one], 5)) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_noise_depends_on_the_position_alone() -> None:
    built, network = initialised()
    once, again = loss_of(built, network, MIXED[:1], 7), loss_of(built, network, MIXED[:1], 7)
    other = loss_of(built, network, MIXED[:1], 8)
    assert float(once) == float(again) != float(other)


def test_validation_does_not_depend_on_how_it_is_batched() -> None:
    built, network = initialised()
    items = [Item(index, built.prepare(one)) for index, one in enumerate(MIXED)]
    network.requires_grad_(False)
    whole = built.validation_step(network, built.collate(items), CounterRng(1))
    parts = [built.validation_step(network, built.collate([item]), CounterRng(1)) for item in items]
    assert float(whole["val_loss"]) == pytest.approx(sum(float(part["val_loss"]) for part in parts), rel=1e-5)
    assert float(whole["loss_denominator"]) == 4


def validated(items: list[Item], **options: Any) -> dict[str, float]:
    """Sums of a validation of these clips as one batch."""
    built, network = initialised(validation=Validation(**options))
    network.requires_grad_(False)
    prepared = [Item(item.position, built.prepare(item.value)) for item in items]
    return {
        name: float(value)
        for name, value in built.validation_step(network, built.collate(prepared), CounterRng(1)).items()
    }


def with_captions(*captions: str) -> list[Item]:
    return [
        Item(index, replace(clip, caption=text)) for index, (clip, text) in enumerate(zip(MIXED, captions, strict=True))
    ]


def test_the_loss_at_a_level_has_every_clip_at_that_sigma_and_the_noise_of_its_position() -> None:
    built, network = initialised()
    items = [Item(index, built.prepare(one)) for index, one in enumerate(MIXED)]
    batch = built.collate(items)
    network.requires_grad_(False)
    clips = built._with_noise(network, batch, CounterRng(1))
    expected = built._losses(network, clips, torch.full([4], 0.3), batch.inputs).sum()
    figures = validated([Item(index, one) for index, one in enumerate(MIXED)], noise_levels=(0.3, 0.9))
    assert figures["val_loss_sigma_0.3"] == pytest.approx(float(expected), rel=1e-6)
    assert figures["val_loss_sigma_0.9"] != figures["val_loss_sigma_0.3"]


class Peer:
    """The second of two context-parallel processes that have the same clips; the other's part is made of zeros."""

    def own(self, clips: torch.Tensor) -> torch.Tensor:
        return clips[len(clips) // 2 :]

    def gather(self, own: torch.Tensor, count: int) -> torch.Tensor:
        return torch.cat([own.new_zeros(count - len(own), *own.shape[1:]), own])


def test_clips_of_one_shape_are_encoded_together_and_each_by_one_context_peer() -> None:
    built, network = initialised()
    order = [MIXED[index] for index in (0, 1, 0, 0, 0)]
    batch = built.collate([Item(index, built.prepare(one)) for index, one in enumerate(order)])
    assert [len(group) for group in batch.videos] == [1, 1, 3]
    whole = [group.latents for group in built._with_noise(network, batch, CounterRng(1))]
    expected = built.video_tokenizer.encode(torch.stack([one.video for one in order[2:]]))
    assert torch.equal(whole[2], expected)
    assert torch.equal(whole[0], expected[:1])
    network.context = Peer()  # type: ignore[assignment]
    shared = [group.latents for group in built._with_noise(network, batch, CounterRng(1))]
    assert [float(latents.abs().sum()) > 0 for latents in (shared[0], shared[1], *shared[2])] == [
        False,
        True,
        False,
        True,
        True,
    ]
    # Peers look into a cache at other moments, and one that lacks no clip joins no exchange.
    built.context = replace(built.context, data=evolve(built.context.data, cache="auto"))
    alone = [group.latents for group in built._with_noise(network, batch, CounterRng(1))]
    assert all(torch.equal(latents, other) for latents, other in zip(alone, whole, strict=True))


def test_the_effect_of_captions_is_the_loss_with_those_of_other_clips_less_the_loss_with_their_own() -> None:
    """They move by two places: one place would leave a clip with an equal caption."""
    own = validated(with_captions("red ball", "blue", "blue", "small green box"))
    moved = validated(with_captions("blue", "small green box", "red ball", "blue"), caption_effect=False)
    assert "caption_effect" not in moved
    assert own["caption_effect_denominator"] == 4
    assert own["caption_effect"] == pytest.approx(moved["val_loss"] - own["val_loss"], abs=1e-5) != 0


def test_equal_captions_have_no_effect_to_report() -> None:
    figures = validated(with_captions("same", "same", "same", "same"))
    assert (figures["caption_effect"], figures["caption_effect_denominator"]) == (0, 0)


def test_sizes_the_video_tokenizer_cannot_take_are_unreadable_samples() -> None:
    built, _ = family()
    for shape in ((16, 64, 64), (17, 60, 64)):
        with pytest.raises(UnreadableSample):
            built.prepare(sample(*shape, 0))


def test_generation_keeps_the_condition_frames_and_is_deterministic() -> None:
    built, network = initialised()
    condition = MIXED[0].video[:, :5]
    request = SampleRequest('{"color": "red"}', 17, 64, 64, 5.0, condition)
    free = SampleRequest('{"color": "red"}', 17, 64, 64, 5.0)
    with torch.no_grad():
        first, plain = built.sample(network.eval(), [request, free], seed=1, steps=2)
        again = built.sample(network, [request], seed=1, steps=2)[0]
    reconstructed = built.video_tokenizer.decode(built.video_tokenizer.encode(condition[None]))[0]
    assert first.shape == plain.shape == (3, 17, 64, 64)
    assert torch.equal(first[:, :5], reconstructed)
    assert (first.int() - again.int()).abs().max() <= 1
    assert not torch.equal(plain[:, :5], reconstructed)


def test_the_generation_tower_starts_as_a_copy_of_the_text_tower() -> None:
    _, network = initialised()
    state = network.state_dict()
    for name, value in state.items():
        if "_moe_gen" in name:
            assert torch.equal(value, state[name.replace("_moe_gen", "")]), name
