"""Adapters for chat whose settings hold what no export writes: one error with the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cosmos_core.checkpoint import SafetensorsWeights
from cosmos_core.errors import UserError
from cosmos_vlm.chat.adapter import FILE, Adapter, read_adapter, with_adapters


@pytest.mark.parametrize(
    "settings",
    [
        "[]",
        "[" * 100_000,
        *(f'{{"r": {value}, "lora_alpha": 1}}' for value in ("0", "-4", '"x"', "[]", "NaN", "1e400", "1" + "0" * 400)),
        *(f'{{"r": 4, "lora_alpha": {value}}}' for value in ("0", "-4", "null", "1e400")),
    ],
)
def test_settings_of_wrong_types_are_refused(tmp_path: Path, settings: str) -> None:
    (tmp_path / FILE).write_text(settings)
    with pytest.raises(UserError, match="the adapter cannot be used"):
        read_adapter(str(tmp_path))


@pytest.mark.parametrize("pattern", ["rank_pattern", "alpha_pattern"])
def test_scales_by_layer_are_refused(tmp_path: Path, pattern: str) -> None:
    settings = {"r": 4, "lora_alpha": 4, "rank_pattern": {}, "alpha_pattern": {}}
    (tmp_path / FILE).write_text(json.dumps(settings))
    assert read_adapter(str(tmp_path)).scale == 1
    (tmp_path / FILE).write_text(json.dumps({**settings, pattern: {"q_proj": 8}}))
    with pytest.raises(UserError) as refused:
        read_adapter(str(tmp_path))
    assert f"it has a {pattern}" in refused.value.problems[0].message


@pytest.mark.parametrize("name", ["lora_magnitude_vector", "lora_B.bias", "weight"])
def test_tensors_that_are_no_matrices_of_lora_are_refused(tmp_path: Path, name: str) -> None:
    layer = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    matrices = {f"{layer}.lora_A.weight": torch.ones(2, 4), f"{layer}.lora_B.weight": torch.ones(4, 2)}
    base = SafetensorsWeights(
        saved(tmp_path / "base", {"model.language_model.layers.0.self_attn.q_proj.weight": torch.ones(4, 4)})
    )
    plain, more = (
        saved(tmp_path / "plain", matrices),
        saved(tmp_path / "more", {**matrices, f"{layer}.{name}": torch.ones(4)}),
    )
    with_adapters(base, [Adapter(plain, 1.0, "")], None)
    with pytest.raises(UserError) as refused:
        with_adapters(base, [Adapter(more, 1.0, "")], None)
    assert f"q_proj.{name}, which is no matrix of LoRA" in refused.value.problems[0].message


def saved(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("scale", ["nan", "inf", "x"])
def test_a_scale_that_is_no_number_is_refused(tmp_path: Path, scale: str) -> None:
    (tmp_path / FILE).write_text('{"r": 4, "lora_alpha": 4}')
    assert read_adapter(f"{tmp_path}@0.5").scale == 0.5
    with pytest.raises(UserError, match="the adapter cannot be used"):
        read_adapter(f"{tmp_path}@{scale}")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "x/" * 3000])
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="the adapter cannot be used"):
        read_adapter(name)
