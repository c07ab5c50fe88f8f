"""The network's sizes as diffusers' configuration, and back."""

from __future__ import annotations

from typing import Any

from cosmos_vfm.network.rope import axes_of_head
from cosmos_vfm.tiers import TIERS, NetworkConfig

__all__ = ["SCHEDULER", "matching_tier", "to_diffusers_config"]

SCHEDULER: dict[str, Any] = {
    "_class_name": "UniPCMultistepScheduler",
    "num_train_timesteps": 1000,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 1.0,
    "solver_order": 2,
    "solver_type": "bh2",
    "predict_x0": True,
    "lower_order_final": True,
}
"""The native flow schedule (spec/vfm.md 8.1), for bases that ship none."""


def to_diffusers_config(network: NetworkConfig) -> dict[str, Any]:
    """``transformer/config.json`` of a network."""
    return {
        "_class_name": "Cosmos3OmniTransformer",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "base_fps": 24,
        "enable_fps_modulation": True,
        "head_dim": network.head_dim,
        "hidden_act": "silu" if network.gated_mlp else "relu2",
        "hidden_size": network.hidden,
        "intermediate_size": network.mlp,
        "latent_channel": 48,
        "latent_patch_size": 2,
        "num_attention_heads": network.heads,
        "num_hidden_layers": network.layers,
        "num_key_value_heads": network.kv_heads,
        "patch_latent_dim": 192,
        "qk_norm_for_text": network.text_qk_norm,
        "rms_norm_eps": network.eps,
        "rope_axes_dim": list(axes_of_head(network.head_dim)),
        "rope_theta": network.rope_theta,
        "timestep_scale": 0.001,
        "unified_3d_mrope_reset_spatial_ids": True,
        "unified_3d_mrope_temporal_modality_margin": 15000,
        "use_und_k_norm_for_gen": network.text_k_norm_for_generation,
        "vocab_size": network.vocab,
    }


def matching_tier(config: dict[str, Any]) -> str | None:
    """Tier whose sizes a diffusers configuration has; None for a network of another size."""
    for name, network in TIERS.items():
        wanted = to_diffusers_config(network)
        keys = (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "vocab_size",
            "hidden_act",
        )
        if all(config.get(key) == wanted[key] for key in keys):
            return name
    return None
