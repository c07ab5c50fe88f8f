"""NetworkConfig from tensor shapes, and as the configuration of diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from cosmos_core.errors import Problem, UserError
from cosmos_vfm.network.rope import axes_of_head
from cosmos_vfm.sizes import MODEL_SIZES, NetworkConfig

__all__ = [
    "Shapes",
    "check_config",
    "matching_size",
    "native_scheduler",
    "network_config_of",
    "to_diffusers_config",
    "transformer_config",
]

SIZE_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "hidden_act",
)
"""Keys of diffusers' configuration that must agree for two networks to be of the same size."""
UNCHECKED = ("_class_name", "attention_dropout", "vocab_size")
"""Keys that change nothing that the network computes."""
LAYER = "language_model.model.layers.0."
REQUIRED = (
    "language_model.model.embed_tokens.weight",
    f"{LAYER}self_attn.k_norm_moe_gen.weight",
    f"{LAYER}self_attn.q_proj_moe_gen.weight",
    f"{LAYER}self_attn.k_proj_moe_gen.weight",
    f"{LAYER}mlp_moe_gen.up_proj.weight",
)
"""Tensors whose shapes give the sizes."""

NUMBERED = re.compile(r"language_model\.model\.layers\.(\d{1,4})\.")

Shapes = Mapping[str, Sequence[int]]


def native_scheduler(shift: float) -> dict[str, Any]:
    """The native flow schedule (docs/models/generator.md, Schedule and solver), for bases that ship none."""
    return {
        "_class_name": "UniPCMultistepScheduler",
        "num_train_timesteps": 1000,
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "flow_shift": shift,
        "solver_order": 2,
        "solver_type": "bh2",
        "predict_x0": True,
        "lower_order_final": True,
    }


def network_config_of(shapes: Shapes) -> NetworkConfig:
    """NetworkConfig from the shapes of tensors with the framework's names. The rest follows from the MLP.

    Raises UserError when a tensor that every generator has is missing.
    """
    incomplete = "the checkpoint is not a complete generator"
    missing = [name for name in REQUIRED if name not in shapes]
    if missing:
        raise UserError(incomplete, [Problem(message=f"lacks {', '.join(missing)}")])
    wrong = [name for name in REQUIRED if len(shapes[name]) != 2 - ("norm" in name) or not all(shapes[name])]
    if wrong:
        sizes = ", ".join(f"{name} {tuple(shapes[name])}" for name in wrong)
        raise UserError(incomplete, [Problem(message=f"these tensors are of no usable size: {sizes}")])
    vocab, hidden = shapes["language_model.model.embed_tokens.weight"]
    head_dim = shapes[f"{LAYER}self_attn.k_norm_moe_gen.weight"][0]
    gated = f"{LAYER}mlp_moe_gen.gate_proj.weight" in shapes
    return NetworkConfig(
        hidden=hidden,
        layers=1 + max(int(layer[1]) for name in shapes if (layer := NUMBERED.match(name))),
        heads=shapes[f"{LAYER}self_attn.q_proj_moe_gen.weight"][0] // head_dim,
        kv_heads=shapes[f"{LAYER}self_attn.k_proj_moe_gen.weight"][0] // head_dim,
        mlp=shapes[f"{LAYER}mlp_moe_gen.up_proj.weight"][0],
        vocab=vocab,
        head_dim=head_dim,
        eps=1e-6 if gated else 1e-5,
        rope_theta=5e6 if gated else 1e8,
        gated_mlp=gated,
        float_norm=not gated,
        text_qk_norm=f"{LAYER}self_attn.q_norm.weight" in shapes,
        text_k_norm_for_generation=f"{LAYER}self_attn.k_norm_und_for_gen.weight" in shapes,
    )


def transformer_config(shapes: Shapes, base: Mapping[str, Any]) -> dict[str, Any]:
    """``transformer/config.json`` of these tensors.

    base: configuration of the checkpoint they come from; its values are used if it is one of diffusers with the same
    sizes.
    """
    network = network_config_of(shapes)
    config = to_diffusers_config(network) | _heads(shapes, network.hidden)
    same_size = all(base.get(key, config[key]) == config[key] for key in SIZE_KEYS) and "hidden_size" in base
    base_values = {key: value for key, value in base.items() if same_size and key != "model_type"}
    return {**config, **base_values, "action_gen": config["action_gen"], "sound_gen": config["sound_gen"]}


def check_config(config: Mapping[str, Any], shapes: Shapes, file: Path) -> None:
    """Raises UserError when `config`, read from `file`, describes another network than the one of these tensors."""
    network = to_diffusers_config(network_config_of(shapes))
    problems = [
        Problem(message=f"is {config[key]!r}; the network of these tensors has {value!r}", key=key, file=str(file))
        for key, value in network.items()
        if key not in UNCHECKED and config.get(key, value) != value
    ]
    if problems:
        problems[-1] = evolve(problems[-1], hint="fetch the folder again; other networks are not supported")
        raise UserError("the checkpoint's settings and its tensors disagree", problems)


def _heads(shapes: Shapes, hidden: int) -> dict[str, Any]:
    """Presence and widths of the optional heads."""
    action, sound = shapes.get("action2llm.fc.weight"), shapes.get("sound2llm.weight")
    heads: dict[str, Any] = {"action_gen": action is not None, "sound_gen": sound is not None}
    if action is not None:
        heads |= {"action_dim": action[1] // hidden, "num_embodiment_domains": action[0]}
    if sound is not None:
        heads |= {"sound_dim": sound[1]}
    return heads


def to_diffusers_config(network: NetworkConfig) -> dict[str, Any]:
    """``transformer/config.json`` of a network without optional heads."""
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


def matching_size(shapes: Shapes) -> str | None:
    """Name of the model size that these tensors have; None for any other size."""
    config = to_diffusers_config(network_config_of(shapes))
    names = (
        name
        for name, network in MODEL_SIZES.items()
        if all(to_diffusers_config(network)[key] == config[key] for key in SIZE_KEYS)
    )
    return next(names, None)
