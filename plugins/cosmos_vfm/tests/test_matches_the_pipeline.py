"""Each convention of the sequence against diffusers' own pipeline: prompt, positions, patches, time, latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import Cosmos3OmniPipeline, UniPCMultistepScheduler
from diffusers.models.transformers.transformer_cosmos3 import Cosmos3VLTextRotaryEmbedding
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.train import BuildContext
from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.config import TextTokenizer, VfmConfig, VideoTokenizer
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.network.patches import grid, patchify, unpatchify
from cosmos_vfm.network.rope import axes_of_head, rotation
from cosmos_vfm.network.time import TimeEmbedder
from cosmos_vfm.packing import SequenceSpec, pack_inputs, round_fps
from cosmos_vfm.sampling import SampleRequest
from cosmos_vfm.sizes import MODEL_SIZES
from cosmos_vfm.tokenizer import TextTokens, build_text_tokenizer
from cosmos_vfm.tokenizer.wan import WanVae
from tests.tiny_generator import write_generator

CAPTIONS = ["", "a red circle rolls right", '{"context": "ein Ball, größer als {sonst}"}', "line\n\nbreak. ", "日本 🤖"]
SIZES = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generator(tmp_path_factory.mktemp("published"), MODEL_SIZES["tiny"])


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Cosmos3OmniPipeline:
    return Cosmos3OmniPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def text(folder: Path) -> TextTokens:
    return build_text_tokenizer(TextTokenizer(path=str(folder / "text_tokenizer")), MODEL_SIZES["tiny"])


@pytest.mark.parametrize("caption", CAPTIONS)
def test_prompt_tokens_are_the_pipelines(pipeline: Cosmos3OmniPipeline, text: TextTokens, caption: str) -> None:
    """The pipeline's additions (duration, resolution, system prompt) are off: training has none."""
    plain = {"add_resolution_template": False, "add_duration_template": False, "use_system_prompt": False}
    expected, without_caption = pipeline.tokenize_prompt(caption, **plain)
    assert list(text.ids(caption, 2048)) == expected
    assert list(text.ids("", 2048)) == without_caption


def test_special_tokens_are_the_pipelines(pipeline: Cosmos3OmniPipeline, text: TextTokens) -> None:
    assert text.eos == pipeline.llm_special_tokens["eos_token_id"]
    assert text.vision_start == pipeline.llm_special_tokens["start_of_generation"]
    assert text.ids("a", 2048)[-2:] == (text.eos, text.vision_start)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(SIZES, st.integers(1, 40), st.sampled_from([5.0, 10.0, 15.0, 23.976, 24.0, 29.97, 30.0]), st.data()),
        min_size=1,
        max_size=4,
    )
)
def test_positions_and_noise_mask_are_the_pipelines_sample_by_sample(pipeline, samples) -> None:  # type: ignore[no-untyped-def]
    """Frame rates are rounded to bfloat16 first, as in the base models."""
    specs = [
        SequenceSpec(tuple(range(length)), shape, fps, data.draw(st.integers(0, shape[0] - 1)))
        for shape, length, fps, data in samples
    ]
    inputs = pack_inputs(specs)
    text_start = latent_start = 0
    for spec in specs:
        count = len(spec.text_ids)
        segment = pipeline._prepare_text_segment(list(spec.text_ids), "cpu")
        seen = pipeline._prepare_vision_segment(
            input_vision_tokens=torch.empty(1, 48, *spec.shape),
            has_image_condition=False,
            mrope_offset=segment["vision_start_temporal_offset"],
            vision_fps=round_fps(spec.fps),
            curr=count,
            device="cpu",
            condition_frame_indexes=list(range(spec.num_condition_frames)),
        )
        own = slice(latent_start, latent_start + spec.latent_tokens)
        assert torch.equal(inputs.text_positions[:, text_start : text_start + count], segment["text_mrope_ids"])
        assert torch.equal(inputs.latent_positions[:, own], seen["vision_mrope_ids"].float())
        assert torch.equal(inputs.noise_mask[own].nonzero()[:, 0] + count, seen["vision_mse_loss_indexes"])
        assert (spec.shape[0], *grid(*spec.shape[1:])) == seen["vision_token_shapes"][0]
        text_start, latent_start = text_start + count, own.stop
    assert text_start == len(inputs.text_ids)
    assert latent_start == inputs.latent_positions.shape[1]


@settings(deadline=None)
@given(shape=SIZES)
def test_patches_are_in_the_oracles_order(pipeline, shape) -> None:  # type: ignore[no-untyped-def]
    latents = torch.randn(1, 48, *shape, generator=torch.Generator().manual_seed(0))
    expected, _ = pipeline.transformer._patchify_and_pack_latents([latents])
    assert torch.equal(patchify(latents)[0], expected)
    assert torch.equal(unpatchify(expected[None], (48, *shape)), latents)


def test_time_embeddings_equal_the_oracle(pipeline: Cosmos3OmniPipeline) -> None:
    """Bound: 2e-6 absolute for values of about 1, for sigmas over the whole range."""
    oracle = pipeline.transformer
    ours = TimeEmbedder(MODEL_SIZES["tiny"].hidden)
    state = oracle.time_embedder.state_dict()
    names = {"linear_1": "mlp.0", "linear_2": "mlp.2"}
    ours.load_state_dict({f"{names[name.split('.')[0]]}.{name.split('.')[1]}": state[name] for name in state})
    drawn = torch.rand(200, generator=torch.Generator().manual_seed(0))
    sigma = torch.cat([torch.tensor([0.0, 1.0, 0.001, 0.999]), drawn])
    with torch.no_grad():
        expected = oracle.time_embedder(oracle.time_proj(sigma * 1000 * oracle.config.timestep_scale))
        torch.testing.assert_close(ours(sigma), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latents_are_the_pipelines(folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """Statistics in the video tokenizer's dtype, the posterior's mean, float32 afterwards.

    With diffusers' own encoder they are the same to the last bit; ours sums in another order.
    """
    video_tokenizer = WanVae.load(str(folder / "vae"), dtype)
    whole = Cosmos3OmniPipeline.from_pretrained(folder, torch_dtype=dtype)
    video = torch.randint(0, 256, (2, 3, 9, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = whole._encode_video(video.float() / 127.5 - 1)
    actual, expected = video_tokenizer.encode(video), expected.float()
    assert actual.dtype == torch.float32
    assert float((actual - expected).norm() / expected.norm()) < (1e-6 if dtype == torch.float32 else 1e-2)

    def encoder(videos: torch.Tensor) -> torch.Tensor:
        return whole.vae.encode((videos.float() / 127.5 - 1).to(dtype)).latent_dist.mode()  # type: ignore[no-any-return]

    monkeypatch.setattr(video_tokenizer, "encoder", encoder)
    assert torch.equal(video_tokenizer.encode(video), expected)


@pytest.mark.parametrize("model_size", MODEL_SIZES)
def test_rotations_are_the_oracles_bit_for_bit(model_size: str) -> None:
    """Also at the large positions of latents, where the last bit of a frequency is a thousandth of a radian."""
    network = MODEL_SIZES[model_size]
    oracle = Cosmos3VLTextRotaryEmbedding(network.head_dim, network.rope_theta, axes_of_head(network.head_dim))
    positions = torch.rand(3, 300, generator=torch.Generator().manual_seed(0)) * 15_300
    for dtype in (torch.float32, torch.bfloat16):
        expected = oracle(positions[:, None], torch.device("cpu"), dtype)
        actual = rotation(positions, network.head_dim, network.rope_theta, dtype)
        assert all(torch.equal(ours[:, 0], theirs[0]) for ours, theirs in zip(actual, expected, strict=True))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("shift", [1.0, 5.0])
@pytest.mark.parametrize("shown", [0, 1, 5], ids=["text", "image", "video"])
def test_samples_equal_the_pipelines_up_to_rounding(
    pipeline: Cosmos3OmniPipeline, folder: Path, guidance: float, shift: float, shown: int
) -> None:
    """From the same noise. Pixels of 0 to 255 differ by at most one, since the pipeline does not round them."""
    config = VfmConfig(
        tier="tiny",
        precision="float32",
        tokenizer=VideoTokenizer(type="wan22", vae_path=str(folder / "vae")),
        text_tokenizer=TextTokenizer(path=str(folder / "text_tokenizer")),
    )
    data = DataloaderConfig(dataset=DatasetConfig(type="none"), max_samples_per_batch=1)
    family = VfmFamily(config, BuildContext(torch.device("cpu"), data))
    network = Cosmos3Network(MODEL_SIZES["tiny"])
    state = pipeline.transformer.state_dict()
    network.load_state_dict({name: state[to_diffusers(name)] for name in network.state_dict()})
    known = torch.randint(0, 256, (3, shown, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    request = SampleRequest("red", 17, 64, 64, 24.0, known if shown else None)
    options = {"steps": 4, "guidance": guidance, "shift": shift}
    with torch.no_grad():
        ours = family.sample(network.eval(), [request], seed=3, **options)[0]
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=shift)
    pipeline.set_progress_bar_config(disable=True)
    start = torch.tensor(np.random.RandomState(3).standard_normal((1, 48, 5, 4, 4)), dtype=torch.float32)
    if shown:
        condition_latents = pipeline._encode_video(known[None].float() / 127.5 - 1)
        start[:, :, : condition_latents.shape[2]] = condition_latents
    frames = [Image.fromarray(frame) for frame in known.permute(1, 2, 3, 0).numpy()]
    conditions = {0: {}, 1: {"image": frames[:1][0] if frames else None}, 5: {"video": frames}}[shown]
    theirs = pipeline(
        "red",
        negative_prompt="",
        num_frames=17,
        height=64,
        width=64,
        fps=24.0,
        num_inference_steps=4,
        guidance_scale=guidance,
        latents=start,
        output_type="np",
        use_system_prompt=False,
        add_resolution_template=False,
        add_duration_template=False,
        **conditions,
    ).video
    expected = torch.as_tensor(np.asarray(theirs)).reshape(17, 64, 64, 3).permute(3, 0, 1, 2) * 255
    assert float(expected.std()) > 1
    assert float((ours.float() - expected).abs().max()) <= 1.0
