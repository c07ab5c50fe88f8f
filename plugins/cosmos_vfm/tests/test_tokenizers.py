"""The DCT video tokenizer, the Wan VAE's key names, and the two text tokenizers."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from diffusers import AutoencoderKLWan
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import resolve
from cosmos_core.train import BuildContext
from cosmos_data_bridge.synthetic import attribute_sets, render, structured_caption
from cosmos_vfm.cache import Cached
from cosmos_vfm.config import TextTokenizer, VfmConfig, VideoTokenizer
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.sizes import MODEL_SIZES
from cosmos_vfm.tokenizer import build_text_tokenizer, build_video_tokenizer, import_ahead
from cosmos_vfm.tokenizer.block_dct import BlockDct
from cosmos_vfm.tokenizer.video import latent_shape
from cosmos_vfm.tokenizer.wan import WAN_CONFIG, WanVae, rename_original
from cosmos_vfm.tokenizer.words import EOS, VOCAB_SIZE, WordEncoder, token_id

DCT = BlockDct()


def clips(count: int, size: int = 64, frames: int = 17) -> torch.Tensor:
    """uint8 [count, 3, frames, size, size]."""
    sets = attribute_sets()
    videos = [
        render(sets[17 * index % len(sets)], np.random.default_rng(index), size=size, frames=frames)
        for index in range(count)
    ]
    return torch.from_numpy(np.stack(videos)).permute(0, 4, 1, 2, 3)


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    error = (one.float() - other.float()).square().mean()
    return float(10 * torch.log10(255**2 / error))


@pytest.mark.parametrize("shape", [(1, 16, 16), (17, 64, 64), (5, 80, 64), (85, 32, 48)])
def test_geometry_is_that_of_the_wan_vae(shape: tuple[int, int, int]) -> None:
    video = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    latents = DCT.encode(video)
    assert latents.shape == (2, 48, 1 + (shape[0] - 1) // 4, shape[1] // 16, shape[2] // 16)
    assert latents.shape[2:] == latent_shape(*shape)
    assert DCT.decode(latents).shape == video.shape
    assert DCT.decode(latents).dtype == torch.uint8


def test_both_bases_are_orthonormal() -> None:
    for basis in (DCT.first, DCT.later):
        torch.testing.assert_close(basis @ basis.T, torch.eye(48), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "mean", "worst", "first"), [(64, 25.2, 20.5, 26.5), (128, 27.5, 24.0, 30.0)])
def test_reconstruction_is_as_good_as_the_design_measured(size: int, mean: float, worst: float, first: float) -> None:
    videos = clips(24, size)
    decoded = DCT.decode(DCT.encode(videos))
    figures = [psnr(one, other) for one, other in zip(videos, decoded, strict=True)]
    assert np.mean(figures) >= mean
    assert min(figures) >= worst
    assert psnr(videos[:, :, 0], decoded[:, :, 0]) >= first


def test_a_still_clip_has_the_same_shared_channels_in_every_latent_frame() -> None:
    still = clips(1)[:, :, 8:9].expand(-1, -1, 17, -1, -1)
    latents = DCT.encode(still)
    for frame in range(1, 5):
        torch.testing.assert_close(latents[:, :35, frame], latents[:, :35, 0], atol=1e-4, rtol=1e-4)


def test_latents_have_a_variance_near_that_of_the_noise() -> None:
    assert 1.0 <= float(DCT.encode(clips(48)).var()) <= 4.0


def test_a_flat_colour_survives_exactly() -> None:
    video = torch.tensor([200, 30, 90], dtype=torch.uint8)[None, :, None, None, None].expand(1, 3, 5, 32, 32)
    assert torch.equal(DCT.decode(DCT.encode(video)), video)


def toy_vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan.from_config({**WAN_CONFIG, "base_dim": 8, "decoder_base_dim": 8})


RESIDUAL = {
    "residual.0.gamma": "norm1.gamma",
    "residual.2.weight": "conv1.weight",
    "residual.2.bias": "conv1.bias",
    "residual.3.gamma": "norm2.gamma",
    "residual.6.weight": "conv2.weight",
    "residual.6.bias": "conv2.bias",
}
SHORTCUT = {"shortcut.weight": "conv_shortcut.weight", "shortcut.bias": "conv_shortcut.bias"}
ATTENTION = ("norm.gamma", "to_qkv.weight", "to_qkv.bias", "proj.weight", "proj.bias")
BOTH = ("weight", "bias")


def original_names() -> dict[str, str]:
    """Key of the original file -> diffusers' key, written out from a table.

    See docs/models/generator.md, Wan VAE keys.
    """
    table = {f"conv1.{part}": f"quant_conv.{part}" for part in BOTH}
    table |= {f"conv2.{part}": f"post_quant_conv.{part}" for part in BOTH}
    for side, room, theirs, blocks, scaler in (
        ("encoder", "downsamples", "down_blocks", 2, "downsampler"),
        ("decoder", "upsamples", "up_blocks", 3, "upsampler"),
    ):
        table |= {f"{side}.conv1.{part}": f"{side}.conv_in.{part}" for part in BOTH}
        table |= {f"{side}.head.2.{part}": f"{side}.conv_out.{part}" for part in BOTH}
        table[f"{side}.head.0.gamma"] = f"{side}.norm_out.gamma"
        table |= {f"{side}.middle.0.{old}": f"{side}.mid_block.resnets.0.{new}" for old, new in RESIDUAL.items()}
        table |= {f"{side}.middle.1.{key}": f"{side}.mid_block.attentions.0.{key}" for key in ATTENTION}
        table |= {f"{side}.middle.2.{old}": f"{side}.mid_block.resnets.1.{new}" for old, new in RESIDUAL.items()}
        for stage in range(4):
            here, there = f"{side}.{room}.{stage}.{room}", f"{side}.{theirs}.{stage}"
            for block in range(blocks):
                pairs = (RESIDUAL | SHORTCUT).items()
                table |= {f"{here}.{block}.{old}": f"{there}.resnets.{block}.{new}" for old, new in pairs}
            for layer in ("resample.1", "time_conv"):
                table |= {f"{here}.{blocks}.{layer}.{part}": f"{there}.{scaler}.{layer}.{part}" for part in BOTH}
    return table


def test_the_original_vae_file_loads_and_equals_the_diffusers_layout(tmp_path: Path, monkeypatch) -> None:
    vae = toy_vae()
    theirs = vae.state_dict()
    state = {old: theirs[new] for old, new in original_names().items() if new in theirs}
    assert all(rename_original(old) == new for old, new in original_names().items())
    assert len(state) == len(theirs) == 196
    torch.save(state, tmp_path / "Wan2.2_VAE.pth")
    vae.save_pretrained(tmp_path / "folder")
    monkeypatch.setattr("cosmos_vfm.tokenizer.wan.WAN_CONFIG", dict(vae.config))
    video_tokenizers = [
        build_video_tokenizer(VideoTokenizer(type="wan22", vae_path=str(tmp_path / name)), torch.float32)
        for name in ("Wan2.2_VAE.pth", "folder")
    ]
    video = clips(1, 32, 9)
    first, second = (video_tokenizer.encode(video) for video_tokenizer in video_tokenizers)
    assert first.shape == (1, 48, 3, 2, 2)
    assert torch.equal(first, second)
    mean = vae.encode(video.float() / 127.5 - 1).latent_dist.mode()
    statistics = [torch.tensor(vae.config[key]).view(1, -1, 1, 1, 1) for key in ("latents_mean", "latents_std")]
    torch.testing.assert_close(first, (mean - statistics[0]) / statistics[1], rtol=1e-5, atol=1e-5)
    assert video_tokenizers[0].decode(first).shape == video.shape


def nested(path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, path)


def foreign(path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(1)}, path)


def text(path: Path) -> None:
    path.write_text("not found")


def empty_folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    """No file at all."""


@pytest.mark.parametrize("make", [nothing, text, nested, foreign, empty_folder])
def test_a_file_that_is_no_vae_is_one_clear_error_with_the_key(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "vae.pth")
    with pytest.raises(UserError) as refused:
        WanVae.load(str(tmp_path / "vae.pth"), torch.float32)
    (problem,) = refused.value.problems
    assert problem.key == "model.tokenizer.vae_path"
    assert str(tmp_path / "vae.pth") in problem.message


def test_a_published_folder_gives_its_vae(tmp_path: Path) -> None:
    toy_vae().save_pretrained(tmp_path / "vae")
    video = clips(1, 32, 5)
    inside, itself = (WanVae.load(str(path), torch.float32) for path in (tmp_path, tmp_path / "vae"))
    assert torch.equal(inside.encode(video), itself.encode(video))


@pytest.mark.parametrize(("kind", "imported"), [("wan22", True), ("block_dct", False)])
def test_what_a_vae_takes_seconds_to_import_is_there_once_the_thread_ends(
    kind: str, imported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "cosmos_vfm.tokenizer.wan")
    import_ahead(VideoTokenizer(type=kind)).join()
    assert ("cosmos_vfm.tokenizer.wan" in sys.modules) == imported


@given(st.text())
@settings(deadline=None)
def test_any_text_survives_the_word_tokenizer(text: str) -> None:
    ids = WordEncoder.encode(text)
    assert WordEncoder.decode(ids) == text
    assert all(0 <= token < VOCAB_SIZE for token in ids)


def test_captions_of_the_demo_are_short() -> None:
    import json

    tokens = build_text_tokenizer(TextTokenizer(type="words"), MODEL_SIZES["tiny"])
    lengths = {len(tokens.ids(json.dumps(structured_caption(one)), 2048)) for one in attribute_sets()}
    assert max(lengths) <= 32


def test_the_prompt_is_the_chat_template_then_eos_and_vision_start() -> None:
    tokens = build_text_tokenizer(TextTokenizer(type="words"), MODEL_SIZES["tiny"])
    ids = tokens.ids("red", 2048)
    assert WordEncoder.decode(list(ids)) == (
        "<|im_start|>user\nred<|im_end|>\n<|im_start|>assistant\n<|im_end|><|vision_start|>"
    )
    assert ids[-2:] == (token_id(EOS), token_id("<|vision_start|>"))
    assert tokens.ids("", 2048)[-2:] == ids[-2:]
    assert len(tokens.ids("red " * 99, 20)) == 22


def saved_tokenizer(folder: Path) -> Any:
    """A folder as the released models have it: byte-level BPE, Qwen's special tokens, a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>"]
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": special})
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fast.save_pretrained(folder)
    return fast


def test_a_hub_tokenizer_is_read_from_a_folder(tmp_path: Path) -> None:
    fast = saved_tokenizer(tmp_path)
    tokens = build_text_tokenizer(TextTokenizer(path=str(tmp_path)), MODEL_SIZES["nano"])
    ids = list(tokens.ids("a red circle", 2048))
    assert fast.decode(ids) == (
        "<|im_start|>user\na red circle<|im_end|>\n<|im_start|>assistant\n<|im_end|><|vision_start|>"
    )


def test_cached_tokens_of_a_folder_whose_tokenizer_changed_are_not_used(tmp_path: Path) -> None:
    """The folder has the same name; its chat template is another one."""
    config = resolve("vision_sft_demo", plugins=PluginManager.discover()).config
    assert isinstance(config.model, VfmConfig)
    fast, latents = saved_tokenizer(tmp_path / "text"), torch.randn(48, 2, 4, 4)
    model = evolve(config.model, text_tokenizer=TextTokenizer(type="hf", path=str(tmp_path / "text")))

    def ids(*, write: bool) -> tuple[int, ...] | None:
        family = VfmFamily(model, BuildContext(torch.device("cpu"), evolve(config.dataloader_train, cache=None)))
        cache = family.open_cache(str(tmp_path / "cache"), create=True)
        if write:
            cache.write("ab12", Cached(latents, "red", family.text.ids("red", 64)))
        cached = cache.read("ab12", "red")
        assert cached is not None
        assert torch.equal(cached.latents, latents)
        return cached.ids

    assert ids(write=True) == ids(write=False)
    fast.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    fast.save_pretrained(tmp_path / "text")
    assert ids(write=False) is None


def test_absent_tokenizer_files_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        build_text_tokenizer(TextTokenizer(path=str(tmp_path)), MODEL_SIZES["nano"])
    assert refused.value.problems[0].key == "model.text_tokenizer.path"


def test_without_a_network_a_tokenizer_that_is_not_cached_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmos_vfm.tokenizer.hub.unreachable", lambda: "no route")
    with pytest.raises(UserError) as refused:
        build_text_tokenizer(TextTokenizer(path="acme/not-cached"), MODEL_SIZES["nano"])
    assert "not in the Hub's cache, and the Hub cannot be reached: no route" in refused.value.problems[0].message


def test_deviations_follow_the_design() -> None:
    assert float(DCT.deviation[0]) == pytest.approx(2.5)
    assert float(DCT.deviation[1]) == pytest.approx(2.5 / math.sqrt(2))
