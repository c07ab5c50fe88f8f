"""diffusers' transformer to compare with: compiled blocks, recomputation, one clip at a time, fused AdamW in bf16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import Cosmos3OmniTransformer

from cosmos_core.distributed import to_local
from cosmos_vfm.checkpoints.diffusers_config import to_diffusers_config
from cosmos_vfm.checkpoints.names import to_diffusers
from cosmos_vfm.network.patches import grid
from cosmos_vfm.packing import latent_positions
from tests.benchmarks.running import CLIP
from tests.benchmarks.vfm_case import Case, NoisyClip
from tests.benchmarks.vfm_ours import Ours

__all__ = ["Diffusers"]

TRAINED = ("add_", "norm_added", "moe_gen", "time_embedder", "proj_in", "proj_out")
MARGIN = 15_000


class Diffusers:
    """The same weights as `ours`, rounded to the compute dtype.

    plain: trained weights in float32 under autocast and no recomputation, the plainest way to train in bfloat16.
    """

    def __init__(self, ours: Ours, *, compiled: bool, plain: bool = False) -> None:
        device = ours.run.mesh.device
        self.device, self.vocab = device, ours.network.vocab
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        config = {k: v for k, v in to_diffusers_config(ours.network).items() if not k.startswith("_")}
        with torch.device(device):
            model = Cosmos3OmniTransformer(**config)
        frequencies = model.rotary_emb.inv_freq.clone()
        model.to(self.dtype)
        model.rotary_emb.inv_freq = frequencies
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(part in name for part in TRAINED) or "to_add_out" in name)
            if plain and parameter.requires_grad:
                parameter.data = parameter.data.float()
        with torch.no_grad():
            parameters = dict(model.named_parameters())
            for name, value in ours.model.named_parameters():
                parameters[to_diffusers(name)].copy_(to_local(value.data))
        model.train()
        self.plain = plain
        if device.type == "cuda" and not plain:
            model.enable_gradient_checkpointing()
        if compiled:
            for layer in model.layers:
                layer.compile()
        self.model = model
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=1e-4, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.0, fused=device.type == "cuda"
        )

    def stepper(self, case: Case) -> Callable[[], float]:
        """A function that takes one optimizer step on the clips of step 0."""
        clips = case.noisy_clips(0, self.vocab, self.device)

        return lambda: self.update(clips)

    def update(self, clips: list[NoisyClip]) -> float:
        """One optimizer step; the mean loss before it."""
        loss = self._backward(clips)
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def loss_and_norm(self, case: Case, step: int) -> tuple[float, float]:
        """Mean loss and gradient norm at `step`, without an update."""
        loss = self._backward(case.noisy_clips(step, self.vocab, self.device))
        norm = float(torch.nn.utils.get_total_norm([p.grad.float() for p in self.trained if p.grad is not None]))
        self.optimizer.zero_grad(set_to_none=True)
        return loss, norm

    def _backward(self, clips: list[NoisyClip]) -> float:
        total = torch.zeros((), device=self.device)
        for clip in clips:
            clean = clip.spec.num_condition_frames
            noised = (1 - clip.sigma) * clip.latents + clip.sigma * clip.noise
            noised[:, :clean] = clip.latents[:, :clean]
            with torch.autocast(self.device.type, self.dtype, enabled=self.plain and self.dtype == torch.bfloat16):
                velocity = self._velocity(clip, noised.to(self.dtype))
            error = (velocity.float() - (clip.noise - clip.latents))[..., clean:, :, :]
            loss = error.square().sum() / clip.latents.numel() / len(clips)
            loss.backward()
            total += loss.detach()
        return float(total)

    def _velocity(self, clip: NoisyClip, noised: torch.Tensor) -> Any:
        spec, device = clip.spec, self.device
        count, tokens, frames = len(spec.text_ids), spec.latent_tokens, spec.shape[0]
        text = torch.arange(count, dtype=torch.float32).expand(3, -1)
        video = latent_positions(spec.shape, spec.fps).clone()
        video[0] += count + MARGIN
        token_indices, clean = torch.arange(count, count + tokens, device=device), spec.num_condition_frames
        noisy_indices = token_indices[clean * tokens // frames :]
        return self.model(
            input_ids=torch.tensor(spec.text_ids, device=device),
            text_indexes=torch.arange(count, device=device),
            position_ids=torch.cat([text, video], dim=1).to(device),
            und_len=count,
            sequence_length=count + tokens,
            vision_tokens=[noised[None]],
            vision_token_shapes=[(frames, *grid(*spec.shape[1:]))],
            vision_sequence_indexes=token_indices,
            vision_mse_loss_indexes=noisy_indices,
            vision_timesteps=torch.full((len(noisy_indices),), clip.sigma * 1000, device=device),
            vision_noisy_frame_indexes=[torch.arange(clean, frames, device=device)],
        ).sample[0]
