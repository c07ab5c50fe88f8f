"""diffusers' network with the weights of ours, asked one sample at a time."""

from __future__ import annotations

import torch
from diffusers import Cosmos3OmniTransformer
from diffusers.pipelines.cosmos.pipeline_cosmos3_omni import (
    get_3d_mrope_ids_text_tokens,
    get_3d_mrope_ids_vae_tokens,
)

from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.network.patches import grid
from cosmos_vfm.network.rope import axes_of_head
from cosmos_vfm.packing import MODALITY_MARGIN, SequenceSpec, round_fps

__all__ = ["oracle_of", "oracle_velocity"]


def oracle_of(network: Cosmos3Network) -> Cosmos3OmniTransformer:
    config = network.config
    oracle = Cosmos3OmniTransformer(
        head_dim=config.head_dim,
        hidden_size=config.hidden,
        intermediate_size=config.mlp,
        num_attention_heads=config.heads,
        num_hidden_layers=config.layers,
        num_key_value_heads=config.kv_heads,
        rms_norm_eps=config.eps,
        rope_axes_dim=axes_of_head(config.head_dim),
        rope_theta=config.rope_theta,
        vocab_size=config.vocab,
        hidden_act="silu" if config.gated_mlp else "relu2",
        qk_norm_for_text=config.text_qk_norm,
        use_und_k_norm_for_gen=config.text_k_norm_for_generation,
    )
    oracle.load_state_dict({to_diffusers(name): value for name, value in network.state_dict().items()}, strict=True)
    return oracle.eval()


def oracle_velocity(
    oracle: Cosmos3OmniTransformer, spec: SequenceSpec, latents: torch.Tensor, sigma: float
) -> torch.Tensor:
    """The velocity of one sample, with positions from the oracle's own pipeline. latents: [1, 48, T, H, W]."""
    frames, (rows, columns) = spec.shape[0], grid(*spec.shape[1:])
    count, per_frame = len(spec.text_ids), rows * columns
    text, cursor = get_3d_mrope_ids_text_tokens(count, 0, use_float_positions=True)
    video, _ = get_3d_mrope_ids_vae_tokens(frames, rows, columns, cursor + MODALITY_MARGIN, fps=round_fps(spec.fps))
    total = count + frames * per_frame
    noisy = torch.arange(count + spec.num_condition_frames * per_frame, total)
    return oracle(
        input_ids=torch.tensor(spec.text_ids),
        text_indexes=torch.arange(count),
        position_ids=torch.cat([text, video.float()], dim=1),
        und_len=count,
        sequence_length=total,
        vision_tokens=[latents],
        vision_token_shapes=[(frames, rows, columns)],
        vision_sequence_indexes=torch.arange(count, total),
        vision_mse_loss_indexes=noisy,
        vision_timesteps=torch.full((len(noisy),), sigma * 1000),
        vision_noisy_frame_indexes=[torch.arange(spec.num_condition_frames, frames)],
    ).sample[0]
