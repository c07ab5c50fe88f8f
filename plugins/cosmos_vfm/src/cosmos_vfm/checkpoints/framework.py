"""The `model` section of config.json in an `hf` export. cosmos-framework builds its network from it.

Classes are named by the framework's public aliases (`_target` and `_type`). Missing values have their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from cosmos_vfm.config import VfmConfig
from cosmos_vfm.sizes import NetworkConfig

__all__ = ["model_section"]

CONFIGS = "cosmos3://vfm/models/vlm"
VAE = "pretrained/tokenizers/video/wan2pt2/Wan2.2_VAE.pth"
SOUND_VAE = "pretrained/tokenizers/audio/avae/avae_48k_noncausal_25hz_64ch.ckpt"
LATENT_CHANNELS = 48
LATENT_FRAMES = 300
SPATIAL, TEMPORAL = 16, 4


@frozen
class _Backbone:
    """Names of a language model in the framework: its class, its configuration class, its file of sizes."""

    network: str
    config: str
    sizes: str
    name: str
    resolution: str = "720"


_QWEN = ("qwen3_vl_text_for_causal_lm", "qwen3_vl_mot_config_from_json_file")
_NEMOTRON = ("nemotron3_dense_vl_text_for_causal_lm", "nemotron3_dense_vl_mot_config_from_json_file")
_NANO = _Backbone(*_QWEN, "qwen3_vl/configs/Qwen3-VL-8B-Instruct.json", "nvidia/Cosmos3-Nano-Reasoner")
_SUPER = _Backbone(*_QWEN, "qwen3_vl/configs/Qwen3-VL-32B-Instruct.json", "nvidia/Cosmos3-Super-Reasoner")
_EDGE = _Backbone(
    *_NEMOTRON, "nemotron_3_dense_vl/configs/Nemotron-2B-Dense-VL.json", "nvidia/Cosmos3-Edge-Reasoner", "480"
)
_RELEASED = {"nano": _NANO, "super": _SUPER, "edge": _EDGE}


def model_section(
    network: NetworkConfig,
    transformer: Mapping[str, Any],
    *,
    model_size: str | None,
    model: VfmConfig | None,
    precision: str,
) -> dict[str, Any]:
    """The section for an export with these sizes.

    transformer: diffusers' configuration of the same weights. model_size: the released size it has, if any. model: the
    configuration it was trained with, if it was. precision: dtype of the weights.
    """
    backbone = _RELEASED.get(model_size or "", _NANO if network.gated_mlp else _EDGE)
    trained = model if model is not None else VfmConfig()
    return {
        "_target": "omni_mot_model",
        "_recursive_": False,
        "config": {
            "_type": "omni_mot_model_config",
            "precision": precision,
            "joint_attn_implementation": trained.joint_attn_implementation,
            "max_num_tokens_after_packing": trained.max_num_tokens_after_packing,
            "lora_enabled": False,
            "vision_gen": True,
            "state_ch": LATENT_CHANNELS,
            "state_t": LATENT_FRAMES,
            "latent_downsample_factor": SPATIAL,
            "resolution": backbone.resolution,
            **_heads(transformer),
            "ema": {"_type": "ema_config", "enabled": False},
            "parallelism": {"_type": "parallelism_config"},
            "compile": {"_type": "compile_config"},
            "activation_checkpointing": {"_type": "activation_checkpointing_config", "mode": "none"},
            "diffusion_expert_config": _expert(transformer),
            "rectified_flow_training_config": _flow(trained),
            "rectified_flow_inference_config": {"_type": "rectified_flow_inference_config"},
            "tokenizer": _video_tokenizer(),
            "vlm_config": _language_model(network, backbone, released=model_size in _RELEASED),
        },
    }


def _heads(transformer: Mapping[str, Any]) -> dict[str, Any]:
    """The optional heads for action and sound that the weights have."""
    heads: dict[str, Any] = {"action_gen": transformer["action_gen"], "sound_gen": transformer["sound_gen"]}
    if transformer["action_gen"]:
        heads["max_action_dim"] = transformer["action_dim"]
        heads["num_embodiment_domains"] = transformer["num_embodiment_domains"]
    if transformer["sound_gen"]:
        heads["sound_dim"] = transformer["sound_dim"]
        heads["sound_latent_fps"] = 25
        heads["sound_tokenizer"] = _sound_tokenizer()
    return heads


def _expert(transformer: Mapping[str, Any]) -> dict[str, Any]:
    margin = "unified_3d_mrope_temporal_modality_margin"
    return {
        "_type": "diffusion_expert_config",
        "base_fps": transformer["base_fps"],
        "enable_fps_modulation": transformer["enable_fps_modulation"],
        "load_weights_from_pretrained": False,
        "patch_spatial": transformer["latent_patch_size"],
        "unified_3d_mrope_reset_spatial_ids": transformer["unified_3d_mrope_reset_spatial_ids"],
        margin: transformer[margin],
    }


def _flow(model: VfmConfig) -> dict[str, Any]:
    """Shifts without a fraction are integers, as the framework requires."""
    flow = model.flow
    return {
        "_type": "rectified_flow_training_config",
        "shift": {key: int(shift) if shift.is_integer() else shift for key, shift in flow.shift.items()},
        "train_time_video_distribution": flow.video_distribution,
        "train_time_image_distribution": flow.image_distribution,
        "loss_scale": flow.loss_scale,
        "image_loss_scale": flow.image_loss_scale,
        "normalize_loss_by_active": flow.normalize_loss_by_active,
    }


def _video_tokenizer() -> dict[str, Any]:
    return {
        "_target": "wan2pt2_vae_interface",
        "bucket_name": "",
        "object_store_credential_path_pretrained": "",
        "vae_path": VAE,
        "chunk_duration": 93,
        "encode_chunk_frames": {"256": 68, "480": 24, "720": 12},
        "encode_exact_durations": None,
        "keep_decoder_cache": False,
        "spatial_compression_factor": SPATIAL,
        "temporal_compression_factor": TEMPORAL,
        "use_streaming_encode": False,
    }


def _sound_tokenizer() -> dict[str, Any]:
    return {
        "_target": "avae_interface",
        "bucket_name": "",
        "object_store_credential_path_pretrained": "",
        "avae_path": SOUND_VAE,
        "avae_config_path": "",
        "audio_channels": 2,
        "io_channels": 64,
        "hop_size": 1920,
        "sample_rate": 48000,
        "normalization_type": "none",
        "normalize_latents": False,
        "tanh_clamp": 0.995,
        "tanh_input_scale": 1.5,
        "tanh_output_scale": 3.5,
    }


def _language_model(network: NetworkConfig, backbone: _Backbone, *, released: bool) -> dict[str, Any]:
    """No vision tower, and no pretrained weights to download."""
    sizes: dict[str, Any] = {
        "_target": "create_vlm_config",
        "base_config": {"_target": backbone.config, "json_file": f"{CONFIGS}/{backbone.sizes}"},
        "include_visual": False,
        "qk_norm_for_text": network.text_qk_norm,
    }
    if network.text_k_norm_for_generation:
        sizes["use_und_k_norm_for_gen"] = True
    if not released:
        sizes["text_config_overrides"] = {
            "hidden_size": network.hidden,
            "intermediate_size": network.mlp,
            "num_hidden_layers": network.layers,
            "num_attention_heads": network.heads,
            "num_key_value_heads": network.kv_heads,
            "head_dim": network.head_dim,
            "vocab_size": network.vocab,
        }
    tokenizer = {"_target": "build_processor_lazy", "repository": network.text_model, "revision": network.text_revision}
    return {
        "_type": "vlm_config",
        "model_name": backbone.name,
        "model_instance": {"_target": backbone.network, "config": sizes},
        "pretrained_weights": {"_type": "pretrained_weights_config", "enabled": False},
        "tokenizer": tokenizer if released else None,
        "qk_norm": False,
        "tie_word_embeddings": False,
        "use_system_prompt": False,
    }
