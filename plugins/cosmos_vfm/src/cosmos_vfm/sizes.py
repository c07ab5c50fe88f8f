"""Model sizes of the network (docs/models/generator.md, Model sizes)."""

from __future__ import annotations

from attrs import frozen

__all__ = ["MODEL_SIZES", "NetworkConfig"]


@frozen(kw_only=True)
class NetworkConfig:
    """Values that differ between model sizes.

    gated_mlp: SwiGLU, else relu(x)^2 without a gate. float_norm: RMSNorm multiplies its weight before rounding
    (Nemotron), else after (Qwen). text_qk_norm: per-head norms in the understanding tower. text_k_norm_for_generation:
    an extra norm of the text keys that latents attend to. text_model: Hub repository of the text tokenizer.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocab: int
    head_dim: int = 128
    eps: float = 1e-6
    rope_theta: float = 5e6
    gated_mlp: bool = True
    float_norm: bool = False
    text_qk_norm: bool = True
    text_k_norm_for_generation: bool = False
    text_model: str = ""
    text_revision: str = "main"


MODEL_SIZES = {
    "tiny": NetworkConfig(hidden=160, layers=4, heads=3, kv_heads=1, head_dim=64, mlp=448, vocab=512),
    # Processes that share a pack take equal numbers of heads, so three would not do for two, four or eight.
    "tiny_even": NetworkConfig(hidden=160, layers=4, heads=8, kv_heads=2, head_dim=64, mlp=448, vocab=512),
    "tiny_edge": NetworkConfig(
        hidden=160,
        layers=4,
        heads=3,
        kv_heads=1,
        head_dim=64,
        mlp=448,
        vocab=512,
        eps=1e-5,
        rope_theta=1e8,
        gated_mlp=False,
        float_norm=True,
        text_qk_norm=False,
        text_k_norm_for_generation=True,
    ),
    "edge": NetworkConfig(
        hidden=2048,
        layers=28,
        heads=16,
        kv_heads=8,
        mlp=9216,
        vocab=131072,
        eps=1e-5,
        rope_theta=1e8,
        gated_mlp=False,
        float_norm=True,
        text_qk_norm=False,
        text_k_norm_for_generation=True,
        text_model="nvidia/Cosmos3-Edge",
    ),
    "nano": NetworkConfig(
        hidden=4096,
        layers=36,
        heads=32,
        kv_heads=8,
        mlp=12288,
        vocab=151936,
        text_model="Qwen/Qwen3-VL-8B-Instruct",
        text_revision="0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
    ),
    "super": NetworkConfig(
        hidden=5120,
        layers=64,
        heads=64,
        kv_heads=8,
        mlp=25600,
        vocab=151936,
        text_model="Qwen/Qwen3-VL-32B-Instruct",
        text_revision="0cfaf48183f594c314753d30a4c4974bc75f3ccb",
    ),
}
