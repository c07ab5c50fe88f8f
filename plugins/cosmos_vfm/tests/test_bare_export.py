"""`--format hf`: config.json has the section from which cosmos-framework builds the network that it loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Cosmos3OmniTransformer
from safetensors import safe_open

from cosmos_vfm.checkpoints.diffusers_config import to_diffusers_config, transformer_config
from cosmos_vfm.checkpoints.framework import model_section
from cosmos_vfm.config import Flow, VfmConfig
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.sizes import MODEL_SIZES
from tests.command import cosmos

ALIASES = {
    *("omni_mot_model", "omni_mot_model_config", "ema_config", "parallelism_config", "compile_config", "vlm_config"),
    *("activation_checkpointing_config", "diffusion_expert_config", "pretrained_weights_config", "create_vlm_config"),
    *("rectified_flow_training_config", "rectified_flow_inference_config", "build_processor_lazy", "avae_interface"),
    *("wan2pt2_vae_interface", "qwen3_vl_mot_config_from_json_file", "qwen3_vl_text_for_causal_lm"),
    *("nemotron3_dense_vl_mot_config_from_json_file", "nemotron3_dense_vl_text_for_causal_lm"),
}
"""Names of classes that the framework's loader resolves; any other name is an error there."""


def classes(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (value[key] for key in ("_target", "_type") if key in value)
        for inner in value.values():
            yield from classes(inner)


def exported(root: Path, *more: str, **heads: Any) -> dict[str, Any]:
    """config.json of a bare export of a tiny network."""
    torch.manual_seed(0)
    config = {key: value for key, value in to_diffusers_config(MODEL_SIZES["tiny"]).items() if not key.startswith("_")}
    Cosmos3OmniTransformer(**config, **heads).to(torch.bfloat16).save_pretrained(root / "published/transformer")
    cosmos("convert", str(root / "published"), "-o", str(root / "base"))
    cosmos("export", str(root / "base"), "--task", "vfm", "--format", "hf", "-o", str(root / "bare"), *more)
    written: dict[str, Any] = json.loads((root / "bare/config.json").read_text())
    return written


def section_of(model_size: str, model: VfmConfig | None = None) -> dict[str, Any]:
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Cosmos3Network(MODEL_SIZES[model_size]).named_parameters()}
    return model_section(
        MODEL_SIZES[model_size],
        transformer_config(shapes, {}),
        model_size=model_size,
        model=model,
        precision="bfloat16",
    )


def test_a_bare_export_names_the_model_by_aliases_that_the_loader_knows(tmp_path: Path) -> None:
    config = exported(tmp_path)
    assert config["model_type"] == "cosmos3_omni"
    assert config["model"]["_target"] == "omni_mot_model"
    assert set(classes(config["model"])) <= ALIASES
    model = config["model"]["config"]
    assert (model["precision"], model["lora_enabled"], model["ema"]["enabled"]) == ("bfloat16", False, False)
    assert (model["action_gen"], model["sound_gen"]) == (False, False)
    sizes = model["vlm_config"]["model_instance"]["config"]
    assert sizes["include_visual"] is False
    assert sizes["text_config_overrides"]["hidden_size"] == MODEL_SIZES["tiny"].hidden
    with safe_open(tmp_path / "bare/model.safetensors", framework="pt") as file:
        assert all(name.startswith("model.net.") for name in file.keys())  # noqa: SIM118


def test_the_old_option_layout_still_works_and_names_format(tmp_path: Path) -> None:
    exported(tmp_path)
    command = ("export", str(tmp_path / "base"), "--task", "vfm", "--layout", "hf", "-o", str(tmp_path / "old"))
    assert "note: --layout is now called --format" in cosmos(*command).stderr.splitlines()
    assert (tmp_path / "old/config.json").read_bytes() == (tmp_path / "bare/config.json").read_bytes()
    assert "give --format only" in cosmos(*command[:-1], str(tmp_path / "both"), "--format", "hf", code=2).stderr
    assert not (tmp_path / "both").exists()
    assert "--layout" not in cosmos("export", "--help").stdout


def test_the_section_says_which_heads_the_weights_have_and_in_which_dtype(tmp_path: Path) -> None:
    heads = {"action_gen": True, "action_dim": 6, "num_embodiment_domains": 4, "sound_gen": True, "sound_dim": 10}
    model = exported(tmp_path, "--dtype", "float32", **heads)["model"]["config"]
    assert (model["action_gen"], model["max_action_dim"], model["num_embodiment_domains"]) == (True, 6, 4)
    assert (model["sound_gen"], model["sound_dim"]) == (True, 10)
    assert model["sound_tokenizer"]["_target"] == "avae_interface"
    assert model["precision"] == "float32"
    assert set(classes(model)) <= ALIASES


@pytest.mark.parametrize(
    ("model_size", "sizes", "tokenizer", "resolution"),
    [
        ("nano", "qwen3_vl/configs/Qwen3-VL-8B-Instruct.json", "Qwen/Qwen3-VL-8B-Instruct", "720"),
        ("super", "qwen3_vl/configs/Qwen3-VL-32B-Instruct.json", "Qwen/Qwen3-VL-32B-Instruct", "720"),
        ("edge", "nemotron_3_dense_vl/configs/Nemotron-2B-Dense-VL.json", "nvidia/Cosmos3-Edge", "480"),
    ],
)
def test_a_released_size_refers_to_the_frameworks_own_file_of_sizes(
    model_size: str, sizes: str, tokenizer: str, resolution: str
) -> None:
    model = section_of(model_size)["config"]
    backbone = model["vlm_config"]["model_instance"]["config"]
    assert backbone["base_config"]["json_file"] == f"cosmos3://vfm/models/vlm/{sizes}"
    assert "text_config_overrides" not in backbone
    assert backbone["qk_norm_for_text"] == (model_size != "edge")
    assert backbone.get("use_und_k_norm_for_gen", False) == (model_size == "edge")
    assert model["vlm_config"]["tokenizer"]["repository"] == tokenizer
    assert model["vlm_config"]["pretrained_weights"]["enabled"] is False
    assert model["resolution"] == resolution
    assert (model["state_ch"], model["latent_downsample_factor"]) == (48, 16)


def test_the_training_configuration_is_in_the_section() -> None:
    flow = Flow(shift={"256": 4.0, "480": 5.5}, loss_scale=10.0, normalize_loss_by_active=True)
    trained = VfmConfig(tier="nano", flow=flow, joint_attn_implementation="three_way", max_num_tokens_after_packing=99)
    model = section_of("nano", trained)["config"]
    written = model["rectified_flow_training_config"]
    assert written["shift"] == {"256": 4, "480": 5.5}
    assert isinstance(written["shift"]["256"], int)
    assert (written["loss_scale"], written["image_loss_scale"], written["normalize_loss_by_active"]) == (
        10.0,
        None,
        True,
    )
    assert (model["joint_attn_implementation"], model["max_num_tokens_after_packing"]) == ("three_way", 99)
    expert = model["diffusion_expert_config"]
    assert (expert["base_fps"], expert["unified_3d_mrope_temporal_modality_margin"]) == (24, 15000)


def test_the_diffusers_layout_has_no_such_section(tmp_path: Path) -> None:
    exported(tmp_path)
    cosmos("export", str(tmp_path / "base"), "--task", "vfm", "-o", str(tmp_path / "out"))
    assert "model" not in json.loads((tmp_path / "out/transformer/config.json").read_text())
