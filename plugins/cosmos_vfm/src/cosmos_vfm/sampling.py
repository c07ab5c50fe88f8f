"""Sampling: UniPC on the native flow schedule with classifier-free guidance (docs/models/generator.md, Sampling)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import nn

from cosmos_vfm.flow.objective import frame_noise_mask
from cosmos_vfm.network import PackedInputs
from cosmos_vfm.network.patches import patchify, unpatchify
from cosmos_vfm.packing import SequenceSpec, pack_inputs
from cosmos_vfm.tokenizer import TextTokens, VideoVAE
from cosmos_vfm.tokenizer.video import CHANNELS, TEMPORAL, latent_shape

__all__ = ["SampleRequest", "build_solver", "generate"]


@frozen(eq=False)
class SampleRequest:
    """One video to generate. frames is 1 + 4n, height and width are multiples of 16.

    condition: uint8 [3, t, H, W], the first frames of the video (1 for image to video, 5 for video to video), or None.
    """

    caption: str
    frames: int
    height: int
    width: int
    fps: float
    condition: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Latent (frames, height, width)."""
        return latent_shape(self.frames, self.height, self.width)

    @property
    def num_condition_frames(self) -> int:
        """Latent frames that come from `condition`."""
        return 0 if self.condition is None else 1 + (self.condition.shape[1] - 1) // TEMPORAL


def build_solver(steps: int, shift: float, device: torch.device) -> Any:
    """Diffusers' UniPC on shifted sigmas linspace(0.999, 0). Its timesteps are those of the base models."""
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    solver = UniPCMultistepScheduler(
        num_train_timesteps=1000, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    solver.set_timesteps(steps, sigmas=np.linspace(1 - 1 / 1000, 0, steps + 1)[:-1], device=device)
    return solver


def generate(
    model: nn.Module,
    requests: Sequence[SampleRequest],
    *,
    text: TextTokens,
    video_tokenizer: VideoVAE,
    device: torch.device,
    limit: int,
    seed: int,
    steps: int,
    guidance: float,
    shift: float,
) -> list[torch.Tensor]:
    """uint8 [3, T, H, W] for every request, in batches of one shape. Request i uses the seed `seed + i`."""
    videos: list[torch.Tensor] = []
    for _, same_shape in groupby(requests, key=lambda request: request.shape):
        group = list(same_shape)
        inputs = [_inputs(group, [request.caption for request in group], text, limit, device)]
        if guidance != 1:
            inputs.append(_inputs(group, [""] * len(group), text, limit, device))
        latents = _initial(group, seed + len(videos), video_tokenizer, device)
        noise_mask = frame_noise_mask(
            torch.tensor([request.num_condition_frames for request in group], device=device), group[0].shape[0]
        )
        solver = build_solver(steps, shift, device)
        for timestep in solver.timesteps:
            velocity = _guided(model, latents, float(timestep) / 1000, inputs, guidance) * noise_mask
            latents = solver.step(velocity, timestep, latents, return_dict=False)[0]
        videos.extend(video_tokenizer.decode(latents).cpu())
    return videos


def _inputs(
    group: list[SampleRequest], captions: list[str], text: TextTokens, limit: int, device: torch.device
) -> PackedInputs:
    specs = [
        SequenceSpec(text.ids(caption, limit), request.shape, request.fps, request.num_condition_frames)
        for request, caption in zip(group, captions, strict=True)
    ]
    return pack_inputs(specs).to(device)


def _initial(group: list[SampleRequest], seed: int, video_tokenizer: VideoVAE, device: torch.device) -> torch.Tensor:
    """Noise, float32 [B, 48, T, H, W], with the latents of the condition frames in place."""
    shape = (CHANNELS, *group[0].shape)
    draws = [np.random.RandomState(seed + index).standard_normal(shape) for index in range(len(group))]
    latents = torch.tensor(np.stack(draws), dtype=torch.float32, device=device)
    for index, request in enumerate(group):
        if request.condition is not None:
            condition = video_tokenizer.encode(request.condition[None].to(device))[0]
            latents[index, :, : condition.shape[1]] = condition
    return latents


def _guided(
    model: nn.Module, latents: torch.Tensor, sigma: float, inputs: list[PackedInputs], guidance: float
) -> torch.Tensor:
    """Velocity, float32. With unconditional inputs: v_u + g (v_c - v_u)."""
    tokens = patchify(latents).flatten(0, 1)
    sigmas = torch.full((len(latents),), sigma, device=latents.device)
    outputs = [model(tokens, sigmas, packed).view(len(latents), -1, tokens.shape[-1]) for packed in inputs]
    combined = outputs[0] if len(outputs) == 1 else outputs[1] + guidance * (outputs[0] - outputs[1])
    return unpatchify(combined.float(), tuple(latents.shape[1:]))
