"""Files of video and text tokenizers with wrong types and sizes: one error; tensors rather than pickles are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

from cosmos_core.errors import UserError
from cosmos_vfm.cache import Cached, LatentCache
from cosmos_vfm.tokenizer.hub import hub_tokens
from cosmos_vfm.tokenizer.wan import WAN_CONFIG, WanVae
from cosmos_vfm.tokenizer.wan_files import stored_weights
from tests.tiny_reasoner import write_tokenizer


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderKLWan.from_config({**WAN_CONFIG, "base_dim": 2, "decoder_base_dim": 2}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("base_dim", value) for value in ("2", [2], 0, -2, 3, 10**9, 10**400, True, None, 2.0)),
        *(("latents_mean", value) for value in (0, [], "x" * 48, [0.0] * 47, [float("nan")] * 48, [[0.0]] * 48)),
        *(("latents_std", value) for value in ([0.0] * 48, [-1.0] * 48, {})),
        *(("z_dim", value) for value in (16, "48", {})),
        ("dim_mult", 4),
        ("temperal_downsample", [True]),
        ("num_res_blocks", 10**9),
        ("patch_size", None),
    ],
)
def test_a_vae_of_wrong_types_and_sizes_is_refused_before_it_is_built(
    vae: Path, tmp_path: Path, key: str, value: Any
) -> None:
    config = json.loads((vae / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(UserError) as refused:
        WanVae.load(str(tmp_path), torch.float32)
    (problem,) = refused.value.problems
    assert (problem.key, problem.file) == (key, str(tmp_path / "config.json"))
    assert len(problem.message) < 300


def test_safetensors_are_read_where_they_lie_beside_a_pickle(tmp_path: Path) -> None:
    for name in ("Wan2.2_VAE", "diffusion_pytorch_model"):
        save_file({"a": torch.ones(2)}, tmp_path / f"{name}.safetensors")
        for suffix in (".pth", ".bin"):
            (tmp_path / f"{name}{suffix}").write_bytes(b"a pickle that must not be read")
    assert stored_weights(tmp_path / "Wan2.2_VAE.pth")["a"].sum() == 2
    assert stored_weights(tmp_path)["a"].sum() == 2


@pytest.mark.parametrize("content", [b"", b"no pickle", b"cos\nsystem\n(S'true'\ntR.", b"\x80\x02}q\x00(K\x01K\x02u."])
def test_a_pickle_that_holds_no_tensors_is_refused_without_advice_to_run_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vae.pth").write_bytes(content)
    with pytest.raises(UserError) as refused:
        stored_weights(tmp_path / "vae.pth")
    assert "weights_only" not in str(refused.value)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("tokenizer_config.json", "pad_token", [1]),
        ("tokenizer_config.json", "model_max_length", "x"),
        ("tokenizer_config.json", "tokenizer_class", 3),
        ("tokenizer_config.json", "eos_token", None),
        ("tokenizer.json", "added_tokens", [{"id": "x"}]),
        ("tokenizer.json", "model", {}),
    ],
)
def test_a_text_tokenizer_of_wrong_types_is_one_error(tmp_path: Path, file: str, key: str, value: Any) -> None:
    write_tokenizer(tmp_path)
    content = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**content, key: value}))
    with pytest.raises(UserError) as refused:
        hub_tokens(str(tmp_path), "main")
    assert refused.value.problems[0].key == "model.text_tokenizer.path"


@pytest.mark.parametrize("gone", [("tokenizer.json",), ("tokenizer.json", "tokenizer_config.json")])
def test_a_text_tokenizer_that_is_gone_is_named_by_its_file(tmp_path: Path, gone: tuple[str, ...]) -> None:
    write_tokenizer(tmp_path)
    for name in gone:
        (tmp_path / name).unlink()
    with pytest.raises(UserError) as refused:
        hub_tokens(str(tmp_path), "main")
    assert f"{tmp_path}': there is no tokenizer.json" in refused.value.problems[0].message


@pytest.mark.parametrize("template", ["{% for m in %}", "{{ 1 / 0 }}", "{{ messages + 1 }}"])
def test_a_template_that_fails_is_one_error(tmp_path: Path, template: str) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match="the text tokenizer cannot be loaded"):
        hub_tokens(str(tmp_path), "main")


@pytest.mark.parametrize(
    "tensors",
    [
        {"ids": torch.ones(2, dtype=torch.int32)},
        {"latents": torch.ones(48), "ids": torch.ones(2, dtype=torch.int32)},
        {"latents": torch.ones(48, 1, 2, 2), "format": torch.ones(2, dtype=torch.int32)},
    ],
)
def test_a_cached_clip_of_another_form_is_encoded_again(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    cache = LatentCache(tmp_path / "cache", "codec", "text", create=True)
    cache.write("ab" * 32, Cached(torch.ones(48, 1, 2, 2), "a ball", (1,)))
    assert cache.read("ab" * 32, "a ball") is not None
    save_file(tensors, cache.path("ab" * 32))
    assert cache.read("ab" * 32, "a ball") is None
