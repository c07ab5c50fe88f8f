"""Maps tensor names between the training framework (without ``net.``) and diffusers. Values do not change.

See docs/checkpoints.md, Tensor names.
"""

from __future__ import annotations

import re

__all__ = ["from_diffusers", "to_diffusers"]

_ATTENTION = {
    "q_proj_moe_gen": "add_q_proj",
    "k_proj_moe_gen": "add_k_proj",
    "v_proj_moe_gen": "add_v_proj",
    "o_proj_moe_gen": "to_add_out",
    "q_norm_moe_gen": "norm_added_q",
    "k_norm_moe_gen": "norm_added_k",
    "q_proj": "to_q",
    "k_proj": "to_k",
    "v_proj": "to_v",
    "o_proj": "to_out",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}
_PREFIXES = {
    "language_model.model.": "",
    "language_model.lm_head.": "lm_head.",
    "vae2llm.": "proj_in.",
    "llm2vae.": "proj_out.",
    "time_embedder.mlp.0.": "time_embedder.linear_1.",
    "time_embedder.mlp.2.": "time_embedder.linear_2.",
    "action2llm.": "action_proj_in.",
    "llm2action.": "action_proj_out.",
    "sound2llm.": "audio_proj_in.",
    "llm2sound.": "audio_proj_out.",
    "sound_modality_embed": "audio_modality_embed",
    "action_modality_embed": "action_modality_embed",
}
_TRANSFORMER = re.compile(r"(embed_tokens|layers|norm|norm_moe_gen)\.")
_ATTENTION_PART = re.compile(r"(self_attn\.)(\w+)(\.)")


def _rename_attention(name: str, table: dict[str, str]) -> str:
    return _ATTENTION_PART.sub(lambda match: match[1] + table.get(match[2], match[2]) + match[3], name)


def to_diffusers(name: str) -> str:
    """Framework name -> diffusers name. Raises KeyError for a name outside the network."""
    for ours, theirs in _PREFIXES.items():
        if name.startswith(ours):
            return _rename_attention(theirs + name[len(ours) :], _ATTENTION)
    raise KeyError(name)


def from_diffusers(name: str) -> str:
    """Diffusers name -> framework name. Raises KeyError for a name outside the network."""
    if _TRANSFORMER.match(name):
        reverse = {theirs: ours for ours, theirs in _ATTENTION.items()}
        return "language_model.model." + _rename_attention(name, reverse)
    for ours, theirs in _PREFIXES.items():
        if theirs and name.startswith(theirs):
            return ours + name[len(theirs) :]
    raise KeyError(name)
