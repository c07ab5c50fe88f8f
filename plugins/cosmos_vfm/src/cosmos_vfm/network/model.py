"""The generator network; parameter names are those of the training framework.

See docs/models/generator.md, Parameter names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from cosmos_core.distributed import ContextGroup
from cosmos_vfm.network.backend import AttentionBackend, TextCache
from cosmos_vfm.network.backends import ATTENTION_BACKENDS
from cosmos_vfm.network.context import ContextParallelAttention, split_inputs
from cosmos_vfm.network.layer import DecoderLayer
from cosmos_vfm.network.norm import RmsNorm
from cosmos_vfm.network.packed_inputs import PackedInputs
from cosmos_vfm.network.patches import PATCH
from cosmos_vfm.network.rope import rotation
from cosmos_vfm.network.time import TimeEmbedder
from cosmos_vfm.sizes import NetworkConfig

__all__ = ["LATENT_CHANNELS", "TOKEN_SIZE", "Cosmos3Network", "is_text_tower"]

LATENT_CHANNELS = 48
TOKEN_SIZE = PATCH * PATCH * LATENT_CHANNELS


def is_text_tower(name: str) -> bool:
    """Whether a parameter belongs to the understanding tower (its head included)."""
    return name.startswith("language_model.") and "_moe_gen" not in name and "k_norm_und_for_gen" not in name


class _Transformer(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(
            DecoderLayer(config, last=index == config.layers - 1) for index in range(config.layers)
        )
        self.norm = RmsNorm(config.hidden, config.eps, config.float_norm)
        self.norm_moe_gen = RmsNorm(config.hidden, config.eps, config.float_norm)


class _LanguageModel(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.model = _Transformer(config)
        self.lm_head = nn.Linear(config.hidden, config.vocab, bias=False)


class Cosmos3Network(nn.Module):
    """Two towers over packed samples: text in, velocity of the latent tokens out.

    `norm` and `lm_head` exist because checkpoints hold them; generation never reads them. context: group for context
    parallelism, set before sharding.
    """

    def __init__(self, config: NetworkConfig, backend: str = "two_way") -> None:
        super().__init__()
        self.config = config
        self.attention_backend = ATTENTION_BACKENDS[backend]
        self.context: ContextGroup | None = None
        self.language_model = _LanguageModel(config)
        self.time_embedder = TimeEmbedder(config.hidden)
        self.vae2llm = nn.Linear(TOKEN_SIZE, config.hidden)
        self.llm2vae = nn.Linear(config.hidden, TOKEN_SIZE)

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers: units of sharding, activation checkpointing and compilation."""
        return self.language_model.model.layers

    @property
    def vocabulary(self) -> tuple[nn.Module, nn.Module]:
        """Embedding and head, units of sharding: in the root unit both would be gathered through the whole step."""
        return self.language_model.model.embed_tokens, self.language_model.lm_head

    @property
    def trains_text(self) -> bool:
        """Whether any parameter of the understanding tower trains."""
        return any(value.requires_grad for name, value in self.named_parameters() if is_text_tower(name))

    def empty_text_cache(self) -> TextCache:
        """To pass to the forward passes over the same texts."""
        return [[] for _ in self.layers]

    @contextmanager
    def as_written(self) -> Iterator[None]:
        """Layers are not compiled while inside: for passes that are too few to compile for."""
        with ExitStack() as stack:
            for layer in self.layers:
                assert isinstance(layer, DecoderLayer)
                stack.enter_context(layer.text_regions.as_written())
                stack.enter_context(layer.latent_regions.as_written())
            yield

    def forward(
        self, tokens: torch.Tensor, sigma: torch.Tensor, inputs: PackedInputs, text_cache: TextCache | None = None
    ) -> torch.Tensor:
        """Velocity [Ng, 192] in the activation dtype, zero at tokens of condition frames.

        tokens: [Ng, 192] noised latent patches. sigma: float32 [B], one per sample. text_cache: the first pass fills
        it, and later ones over the same texts skip the understanding tower, whose output they do not change.
        """
        backend = self.attention_backend(inputs.sequences)
        if self.context is None:
            return self._velocity(tokens, sigma, inputs, backend, text_cache)
        parallel = ContextParallelAttention(backend, self.context, len(inputs.text_ids), len(tokens))
        local_velocity = self._velocity(*split_inputs(self.context, tokens, inputs, sigma), parallel, text_cache)
        return self.context.gather(local_velocity, len(tokens))

    def _velocity(
        self,
        tokens: torch.Tensor,
        sigma: torch.Tensor,
        inputs: PackedInputs,
        backend: AttentionBackend,
        text_cache: TextCache | None,
    ) -> torch.Tensor:
        config, transformer, train_text = self.config, self.language_model.model, self.trains_text
        with torch.set_grad_enabled(train_text and torch.is_grad_enabled()):
            text = transformer.embed_tokens(inputs.text_ids)
        latents = self.vae2llm(tokens.to(text.dtype))
        # A matrix product, because its backward pass sums over tokens in float32; indexing would sum in bfloat16.
        is_of_sample = inputs.sample_of_latent[:, None] == torch.arange(len(sigma), device=sigma.device)
        time_embeddings = self.time_embedder(sigma).to(latents.dtype)
        latents = latents + (is_of_sample & inputs.noise_mask[:, None]).to(latents.dtype) @ time_embeddings
        rotations = [
            rotation(positions, config.head_dim, config.rope_theta, text.dtype)
            for positions in (inputs.text_positions, inputs.latent_positions)
        ]
        for index, layer in enumerate(transformer.layers):
            layer_cache = text_cache[index] if text_cache is not None else None
            text, latents = layer(text, latents, *rotations, backend, train_text, layer_cache)
        velocity = self.llm2vae(transformer.norm_moe_gen(latents))
        return velocity * inputs.noise_mask[:, None]
