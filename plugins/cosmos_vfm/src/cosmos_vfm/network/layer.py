"""Decoder layer with two towers. They meet only where latents attend to keys and values of the text.

See docs/models/generator.md, Decoder layer.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import relu, silu

from cosmos_core.attention import AttentionRegions, RegionFunctions, rotate
from cosmos_vfm.network.backend import AttentionBackend, KeysValues
from cosmos_vfm.network.norm import RmsNorm
from cosmos_vfm.network.rope import Rotation
from cosmos_vfm.sizes import NetworkConfig

__all__ = ["LATENT_REGIONS", "TEXT_REGIONS", "DecoderLayer"]


class Mlp(nn.Module):
    """SwiGLU, or relu(x)^2 without a gate. The layer applies the down projection, apart from what is recomputed."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        if config.gated_mlp:
            self.gate_proj = nn.Linear(config.hidden, config.mlp, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.mlp, bias=False)
        self.down_proj = nn.Linear(config.mlp, config.hidden, bias=False)
        self.gated = config.gated_mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the down projection takes: [N, hidden] -> [N, mlp]."""
        up: torch.Tensor = self.up_proj(x)
        return silu(self.gate_proj(x)) * up if self.gated else relu(up).square()


class JointAttention(nn.Module):
    """Projections and per-head norms of both towers; `_moe_gen` marks the generation tower."""

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    o_proj: nn.Linear
    q_proj_moe_gen: nn.Linear
    k_proj_moe_gen: nn.Linear
    v_proj_moe_gen: nn.Linear
    o_proj_moe_gen: nn.Linear

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        hidden, dim = config.hidden, config.head_dim
        for tower in ("", "_moe_gen"):
            for name, heads in (("q", config.heads), ("k", config.kv_heads), ("v", config.kv_heads)):
                self.add_module(f"{name}_proj{tower}", nn.Linear(hidden, heads * dim, bias=False))
            self.add_module(f"o_proj{tower}", nn.Linear(config.heads * dim, hidden, bias=False))

        def norm() -> RmsNorm:
            return RmsNorm(dim, config.eps, config.float_norm)

        self.q_norm: nn.Module = norm() if config.text_qk_norm else nn.Identity()
        self.k_norm: nn.Module = norm() if config.text_qk_norm else nn.Identity()
        self.q_norm_moe_gen, self.k_norm_moe_gen = norm(), norm()
        self.k_norm_und_for_gen: nn.Module | None = norm() if config.text_k_norm_for_generation else None

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (-1, self.q_norm_moe_gen.weight.shape[0]))  # Constant to a compiler.

    def project_text(self, x: torch.Tensor, *, queries: bool) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """Queries (or None), keys and values of the understanding tower before rotation: [N, heads, dim]."""
        q = self.q_norm(self._heads(self.q_proj(x))) if queries else None
        return q, self.k_norm(self._heads(self.k_proj(x))), self._heads(self.v_proj(x))

    def project_latents(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values of the generation tower before rotation: [N, heads, dim]."""
        projections = (self.q_proj_moe_gen, self.k_proj_moe_gen, self.v_proj_moe_gen)
        q, k, v = (self._heads(projection(x)) for projection in projections)
        return self.q_norm_moe_gen(q), self.k_norm_moe_gen(k), v


class DecoderLayer(nn.Module):
    """Text and latents have separate pre-attention and post-attention regions.

    last: nothing reads the text after the last layer, so its output is not computed there.
    """

    def __init__(self, config: NetworkConfig, *, last: bool) -> None:
        super().__init__()

        def norm() -> RmsNorm:
            return RmsNorm(config.hidden, config.eps, config.float_norm)

        self.self_attn = JointAttention(config)
        self.input_layernorm, self.input_layernorm_moe_gen = norm(), norm()
        self.post_attention_layernorm, self.post_attention_layernorm_moe_gen = norm(), norm()
        self.mlp, self.mlp_moe_gen = Mlp(config), Mlp(config)
        self.last = last
        self.text_regions = AttentionRegions(self, TEXT_REGIONS)
        self.latent_regions = AttentionRegions(self, LATENT_REGIONS)

    def forward(
        self,
        text: torch.Tensor,
        latents: torch.Tensor,
        text_rotation: Rotation,
        latent_rotation: Rotation,
        backend: AttentionBackend,
        train_text: bool,
        text_cache: list[KeysValues] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Text [Nu, hidden] and latents [Ng, hidden] after this layer.

        train_text: whether the understanding tower needs gradients; if not, it runs under no_grad. text_cache: this
        layer's entry. Filled when it is empty; otherwise the text is left as it is.
        """
        if text_cache:
            return text, self._latents(latents, text_cache[0], latent_rotation, backend)
        with torch.set_grad_enabled(train_text and torch.is_grad_enabled()):
            text, keys, rotated, values = self._text(text, text_rotation, backend)
        if self.self_attn.k_norm_und_for_gen is not None:
            rotated = rotate(self.self_attn.k_norm_und_for_gen(keys), *text_rotation)
        if text_cache is not None:
            text_cache.append((rotated, values))
        return text, self._latents(latents, (rotated, values), latent_rotation, backend)

    def _text(
        self, text: torch.Tensor, rotation: Rotation, backend: AttentionBackend
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Text after this layer, its keys before and after rotation, and its values."""

        def attend(
            q: torch.Tensor | None, keys: torch.Tensor, rotated: torch.Tensor, values: torch.Tensor
        ) -> torch.Tensor | None:
            return None if q is None else backend.attend_text(q, rotated, values)

        text, (_, keys, rotated, values) = self.text_regions(attend, text, rotation)
        return text, keys, rotated, values

    def _latents(
        self, latents: torch.Tensor, text_kv: KeysValues, rotation: Rotation, backend: AttentionBackend
    ) -> torch.Tensor:
        """Latents after this layer."""

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return backend.attend_latents(q, text_kv, (k, v))

        return self.latent_regions(attend, latents, rotation)[0]

    def text_pre_attention(
        self, text: torch.Tensor, rotation: Rotation
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rotated queries (None in the last layer), keys before and after rotation, values."""
        q, keys, values = self.self_attn.project_text(self.input_layernorm(text), queries=not self.last)
        return None if q is None else rotate(q, *rotation), keys, rotate(keys, *rotation), values

    def text_post_attention(self, text: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Output projection and MLP of the understanding tower."""
        return self._text_down(*self._text_inner(text, mixed))

    def _text_inner(self, text: torch.Tensor, mixed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        text = text + self.self_attn.o_proj(mixed.flatten(1))
        return text, self.mlp(self.post_attention_layernorm(text))

    def _text_down(self, text: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        return text + self.mlp.down_proj(inner)

    def latent_pre_attention(self, latents: torch.Tensor, rotation: Rotation) -> tuple[torch.Tensor, ...]:
        """Rotated queries and keys, and values, of the generation tower."""
        q, k, v = self.self_attn.project_latents(self.input_layernorm_moe_gen(latents))
        return rotate(q, *rotation), rotate(k, *rotation), v

    def latent_post_attention(self, latents: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Output projection and MLP of the generation tower."""
        return self._latent_down(*self._latent_inner(latents, mixed))

    def _latent_inner(self, latents: torch.Tensor, mixed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents = latents + self.self_attn.o_proj_moe_gen(mixed.flatten(1))
        return latents, self.mlp_moe_gen(self.post_attention_layernorm_moe_gen(latents))

    def _latent_down(self, latents: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        return latents + self.mlp_moe_gen.down_proj(inner)


TEXT_REGIONS = RegionFunctions(
    DecoderLayer.text_pre_attention,
    DecoderLayer.text_post_attention,
    DecoderLayer._text_inner,
    DecoderLayer._text_down,
)
LATENT_REGIONS = RegionFunctions(
    DecoderLayer.latent_pre_attention,
    DecoderLayer.latent_post_attention,
    DecoderLayer._latent_inner,
    DecoderLayer._latent_down,
)
