"""Latents of `cosmos generate` against diffusers' pipeline: the same weights, text, noise and settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import Cosmos3OmniPipeline, UniPCMultistepScheduler
from PIL import Image

from cosmos_core.data.video import write_mp4
from cosmos_core.plugin import PluginManager
from cosmos_vfm.config import TextTokenizer
from cosmos_vfm.generate.clips import Clip, Settings, plan_clips
from cosmos_vfm.generate.job import Job, configure_sources
from cosmos_vfm.generate.media import condition_of
from cosmos_vfm.generate.model import Generator, complete, load
from cosmos_vfm.generate.offload import offload
from cosmos_vfm.generate.prompt_file import Row
from cosmos_vfm.sampling import SampleRequest, SolverSettings, sample_latents
from cosmos_vfm.sizes import MODEL_SIZES
from cosmos_vfm.tokenizer import build_text_tokenizer
from cosmos_vfm.tokenizer.block_dct import BlockDct
from tests.command import cosmos
from tests.tiny_generator import write_generator
from tests.unit.logged import logged

CPU = torch.device("cpu")
PLUGINS = PluginManager.discover()
BOUND = 1e-4


@pytest.fixture(scope="module", params=["tiny", "tiny_edge"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published generator, its base, an export of that, an image and a video of other proportions."""
    root = tmp_path_factory.mktemp("oracle")
    write_generator(root / "published", MODEL_SIZES[request.param])
    cosmos("convert", str(root / "published"), "-o", str(root / "base"))
    cosmos("export", str(root / "base"), "-o", str(root / "export"))
    pixels = np.random.RandomState(0).randint(0, 256, (7, 48, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels[0]).save(root / "start.png")
    write_mp4(root / "start.mp4", pixels, 5.0)
    return root


@cache
def generator_of(source: Path) -> Generator:
    return fresh_generator_of(source)


def fresh_generator_of(source: Path) -> Generator:
    job = Job(source=str(source))
    return load(complete(configure_sources(job, PLUGINS)[0], PLUGINS), job, CPU, PLUGINS, adapters=())


def request_of(clip: Clip) -> SampleRequest:
    solver = SolverSettings(clip.steps, clip.guidance, clip.shift, clip.interval)
    condition = condition_of(clip)
    return SampleRequest(
        clip.text,
        clip.frames,
        clip.height,
        clip.width,
        clip.fps,
        # The pipeline takes pictures, whose levels are whole.
        condition.round().byte() if condition is not None else None,
        clip.negative,
        clip.seed,
        solver,
    )


def latents_of(generator: Generator, *requests: SampleRequest) -> list[torch.Tensor]:
    family = generator.family
    return list(
        sample_latents(
            generator.network,
            requests,
            text=family.text,
            video_tokenizer=family.video_tokenizer,
            device=CPU,
            limit=4096,
        )
    )


def pipelines_latents(pipeline: Cosmos3OmniPipeline, request: SampleRequest) -> torch.Tensor:
    """From noise of numpy with the condition in place, without additions to the text."""
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, flow_shift=request.solver.shift, use_karras_sigmas=False
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = np.random.RandomState(request.seed).standard_normal((1, 48, *request.shape))
    start = torch.tensor(noise, dtype=torch.float32)
    given = {}
    if request.condition is not None:
        known = pipeline._encode_video(request.condition[None].float() / 127.5 - 1)
        start[:, :, : known.shape[2]] = known
        frames = [Image.fromarray(frame) for frame in request.condition.permute(1, 2, 3, 0).numpy()]
        given = {"image": frames[0]} if len(frames) == 1 else {"video": frames}
    video = pipeline(
        request.caption,
        negative_prompt=request.negative,
        num_frames=request.frames,
        height=request.height,
        width=request.width,
        fps=request.fps,
        num_inference_steps=request.solver.steps,
        guidance_scale=request.solver.guidance,
        latents=start,
        output_type="latent",
        use_system_prompt=False,
        add_resolution_template=False,
        add_duration_template=False,
        **given,
    ).video
    return torch.as_tensor(video).reshape(48, *request.shape)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("mode", ["text2video", "image2video", "video2video", "text2image"])
def test_latents_equal_the_pipelines_after_eight_steps(place: Path, mode: str) -> None:
    """Also those of the base, in the pipeline that diffusers loads from the export."""
    given = {"image2video": {"image": place / "start.png"}, "video2video": {"video": place / "start.mp4"}}
    row = Row(prompt="a ball", negative_prompt="bad", **given.get(mode, {}))
    frames = 1 if mode == "text2image" else 17
    settings = Settings(steps=8, guidance=6.0, shift=10.0, frames=frames, size="64x48", tells_facts=True, seed=3)
    clip = plan_clips([row], settings, tier="tiny", sampling=generator_of(place / "base").family.config.sampling)[0]
    assert clip.mode == mode
    request = request_of(clip)
    ours = latents_of(generator_of(place / "base"), request)[0]
    for name in ("published", "export") if mode == "text2video" else ("export",):
        theirs = pipelines_latents(Cosmos3OmniPipeline.from_pretrained(place / name), request)
        assert difference(ours, theirs) < BOUND, name
    assert torch.equal(latents_of(generator_of(place / "export"), request)[0], ours)
    if request.condition is not None:
        free = latents_of(generator_of(place / "base"), SampleRequest("a ball", 17, 48, 64, 24.0, seed=3))[0]
        assert difference(free[:, :1], ours[:, :1]) > 0.1


def test_texts_are_computed_once_and_nothing_else_changes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass for both branches, one after the other, and layers that wait on the host give the same latents."""
    generator = generator_of(place / "base")
    counts = {"text": 0, "passes": 0}
    layer = generator.network.layers[0]
    pre_attention = layer.text_regions._pre_attention
    monkeypatch.setattr(
        layer.text_regions, "_pre_attention", lambda *a: counts.update(text=counts["text"] + 1) or pre_attention(*a)
    )
    handle = generator.network.register_forward_pre_hook(lambda *_: counts.update(passes=counts["passes"] + 1))
    solver = SolverSettings(4, 3.0, 5.0)
    request = SampleRequest("a ball", 17, 48, 64, 5.0, negative="bad", seed=1, solver=solver)
    together = latents_of(generator, request)[0]
    assert counts == {"text": 1, "passes": 4}
    monkeypatch.setattr("cosmos_vfm.sampling.PASS_TOKENS", request.tokens)
    assert difference(latents_of(generator, request)[0], together) < 1e-5
    assert counts == {"text": 3, "passes": 12}
    handle.remove()
    streamed = fresh_generator_of(place / "base")
    offload(streamed.network, CPU)
    assert difference(latents_of(streamed, request)[0], together) < 1e-5


def test_layers_on_the_host_visit_the_device_with_what_they_need(place: Path) -> None:
    """Their whole when the text is computed, the generation tower's part afterwards."""
    network = fresh_generator_of(place / "base").network
    offload(network, CPU)
    at_home = [{name: value.data_ptr() for name, value in layer.named_parameters()} for layer in network.layers]
    visits: list[set[bool]] = []

    def visit(layer: torch.nn.Module, home: dict[str, int]) -> None:
        away = {name for name, value in layer.named_parameters() if value.data_ptr() != home[name]}
        visits.append({"moe_gen" in name for name in away})
        if len(visits) > len(network.layers):
            assert away == {name for name in home if "moe_gen" in name or "und_for_gen" in name}

    for layer, home in zip(network.layers, at_home, strict=True):
        layer.register_forward_pre_hook(lambda layer, _, home=home: visit(layer, home))
    solver = SolverSettings(2, 1.0, 3.0)
    text = build_text_tokenizer(TextTokenizer(type="words"), network.config)
    requests = [SampleRequest("a", 5, 32, 32, 5.0, solver=solver)]
    list(sample_latents(network, requests, text=text, video_tokenizer=BlockDct(), device=CPU, limit=99))
    count = len(network.layers)
    assert visits[:count] == [{True, False}] * count
    assert len(visits) == 2 * count
    for layer, home in zip(network.layers, at_home, strict=True):
        assert {name: value.data_ptr() for name, value in layer.named_parameters()} == home


def test_neighbours_of_one_shape_share_passes_and_stay_independent(place: Path) -> None:
    generator = generator_of(place / "base")
    solver = SolverSettings(2, 3.0, 5.0)
    requests = [SampleRequest(text, 5, 32, 32, 5.0, seed=seed, solver=solver) for seed, text in enumerate("abc")]
    for together, request in zip(latents_of(generator, *requests), requests, strict=True):
        assert difference(together, latents_of(generator, request)[0]) < 1e-5


def test_guidance_is_off_outside_its_interval(place: Path) -> None:
    generator = generator_of(place / "base")

    def sampled(guidance: float, interval: tuple[float, float] | None) -> torch.Tensor:
        solver = SolverSettings(3, guidance, 3.0, interval)
        return latents_of(generator, SampleRequest("a", 5, 32, 32, 5.0, negative="b", seed=0, solver=solver))[0]

    assert difference(sampled(6.0, (1000, 1001)), sampled(1.0, None)) < 1e-6
    assert difference(sampled(6.0, (-1, 1001)), sampled(6.0, None)) < 1e-5
    # Timesteps are 999, 857 and 599: strictly between the ends.
    assert difference(sampled(6.0, (599, 999)), sampled(6.0, (600, 998))) == 0.0
    assert difference(sampled(6.0, (598, 999)), sampled(6.0, (600, 998))) > 1e-3


def test_outputs_that_are_not_finite_are_told(place: Path) -> None:
    generator = fresh_generator_of(place / "base")
    with torch.no_grad():
        next(generator.network.parameters()).fill_(torch.nan)
    request = SampleRequest("a", 5, 32, 32, 5.0, solver=SolverSettings(2, 1.0, 3.0))
    with logged("cosmos_vfm") as lines:
        latents_of(generator, request)
    assert "the model's outputs are NaN or infinite" in "".join(lines)
