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
from tests.benchmarks.vfm_case import Case, NoisyClip
from tests.benchmarks.vfm_ours import Ours

__all__ = ["Diffusers"]

TRAINED = ("add_", "norm_added", "moe_gen", "time_embedder", "proj_in", "proj_out")
MARGIN = 15_000


class Diffusers:
    """The same weights as `ours`, rounded to the compute dtype."""

    def __init__(self, ours: Ours, *, compiled: bool) -> None:
        device = ours.run.mesh.device
        self.device, self.vocab = device, ours.network.vocab
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        config = {k: v for k, v in to_diffusers_config(ours.network).items() if not k.startswith("_")}
        with torch.device(device):
            model = Cosmos3OmniTransformer(**config)
        frequencies = model.rotary_emb.inv_freq.clone()
        model.to(self.dtype)
        model.rotary_emb.inv_freq = frequencies
        with torch.no_grad():
            parameters = dict(model.named_parameters())
            for name, value in ours.model.named_parameters():
                parameters[to_diffusers(name)].copy_(to_local(value.data))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(part in name for part in TRAINED) or "to_add_out" in name)
        model.train()
        if device.type == "cuda":
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

        def step() -> float:
            loss = self._backward(clips)
            torch.nn.utils.clip_grad_norm_(self.trained, 0.1)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            return loss

        return step

    def loss_and_norm(self, case: Case, step: int) -> tuple[float, float]:
        """Mean loss and gradient norm at `step`, without an update."""
        loss = self._backward(case.noisy_clips(step, self.vocab, self.device))
        norm = float(torch.nn.utils.get_total_norm([p.grad.float() for p in self.trained if p.grad is not None]))
        self.optimizer.zero_grad(set_to_none=True)
        return loss, norm

    def _backward(self, clips: list[NoisyClip]) -> float:
        total = torch.zeros((), device=self.device)
        for clip in clips:
            noised = ((1 - clip.sigma) * clip.latents + clip.sigma * clip.noise).to(self.dtype)
            velocity = self._velocity(clip, noised)
            loss = (velocity.float() - (clip.noise - clip.latents)).square().mean() / len(clips)
            loss.backward()
            total += loss.detach()
        return float(total)

    def _velocity(self, clip: NoisyClip, noised: torch.Tensor) -> Any:
        spec, device = clip.spec, self.device
        count, tokens, frames = len(spec.text_ids), spec.latent_tokens, spec.shape[0]
        text = torch.arange(count, dtype=torch.float32).expand(3, -1)
        video = latent_positions(spec.shape, spec.fps).clone()
        video[0] += count + MARGIN
        token_indices = torch.arange(count, count + tokens, device=device)
        return self.model(
            input_ids=torch.tensor(spec.text_ids, device=device),
            text_indexes=torch.arange(count, device=device),
            position_ids=torch.cat([text, video], dim=1).to(device),
            und_len=count,
            sequence_length=count + tokens,
            vision_tokens=[noised[None]],
            vision_token_shapes=[(frames, *grid(*spec.shape[1:]))],
            vision_sequence_indexes=token_indices,
            vision_mse_loss_indexes=token_indices,
            vision_timesteps=torch.full((tokens,), clip.sigma * 1000, device=device),
            vision_noisy_frame_indexes=[torch.arange(frames, device=device)],
        ).sample[0]
