"""Sampling: UniPC on the native flow schedule with classifier-free guidance (docs/models/generator.md, Sampling)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from attrs import frozen

from cosmos_vfm.flow.objective import frame_noise_mask
from cosmos_vfm.network import Cosmos3Network, PackedInputs
from cosmos_vfm.network.backend import TextCache
from cosmos_vfm.network.patches import grid, patchify, unpatchify
from cosmos_vfm.packing import SequenceSpec, pack_inputs
from cosmos_vfm.tokenizer import TextTokens, VideoVAE
from cosmos_vfm.tokenizer.video import CHANNELS, TEMPORAL, latent_shape

__all__ = [
    "PASS_TOKENS",
    "SampleRequest",
    "SolverSettings",
    "build_solver",
    "sample_latents",
    "solver_sums",
]

logger = logging.getLogger(__name__)

PASS_TOKENS = 16384
"""Latent tokens that share a forward pass. More in a pass only cost memory: the device is busy with these."""


@frozen
class SolverSettings:
    """How noise becomes a video.

    guidance: 1 skips the negative prompt. interval: guide only at timesteps (0 to 1000) strictly between these two.
    """

    steps: int = 35
    guidance: float = 6.0
    shift: float = 10.0
    interval: tuple[float, float] | None = None

    def guides(self, timestep: float) -> bool:
        """Whether the negative prompt takes part at a timestep."""
        inside = self.interval is None or self.interval[0] < timestep < self.interval[1]
        return self.guidance != 1 and inside


@frozen(eq=False)
class SampleRequest:
    """One video to generate. frames is 1 + 4n, height and width are multiples of 16.

    condition: the first frames of the video, RGB of 0 to 255, uint8 or float32 [3, t, H, W] (t = 1 for image to video,
    5 for video to video), or None. negative: what the guidance leads away from.
    """

    caption: str
    frames: int
    height: int
    width: int
    fps: float
    condition: torch.Tensor | None = None
    negative: str = ""
    seed: int = 0
    solver: SolverSettings = SolverSettings()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Latent (frames, height, width)."""
        return latent_shape(self.frames, self.height, self.width)

    @property
    def num_condition_frames(self) -> int:
        """Latent frames that come from `condition`."""
        return 0 if self.condition is None else 1 + (self.condition.shape[1] - 1) // TEMPORAL

    @property
    def tokens(self) -> int:
        """Latent tokens."""
        rows, columns = grid(*self.shape[1:])
        return self.shape[0] * rows * columns


def build_solver(steps: int, shift: float) -> Any:
    """Diffusers' UniPC on shifted sigmas linspace(0.999, 0). Its timesteps are those of the base models."""
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    solver = UniPCMultistepScheduler(
        num_train_timesteps=1000, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    solver.set_timesteps(steps, sigmas=np.linspace(1 - 1 / 1000, 0, steps + 1)[:-1], device="cpu")
    # Else it looks for the first timestep, and takes the second where many steps make both one whole number.
    solver.set_begin_index(0)
    return solver


def solver_sums(steps: int, shift: float) -> tuple[list[float], torch.Tensor]:
    """Timesteps, and float32 [steps, 1 + steps]: row n weighs the first latents and all velocities after step n.

    Their sum is what the solver gives, since it is linear. On the device the solver itself would make the host wait in
    every step for the network, and the device for the host.
    """
    solver = build_solver(steps, shift)
    latents, *velocities = torch.eye(1 + steps)[:, None, None]
    rows = []
    for timestep, velocity in zip(solver.timesteps, velocities, strict=True):
        latents = solver.step(velocity, timestep, latents, return_dict=False)[0]
        rows.append(latents.flatten())
    return [float(timestep) for timestep in solver.timesteps], torch.stack(rows)


def sample_latents(
    model: Cosmos3Network,
    requests: Sequence[SampleRequest],
    *,
    text: TextTokens,
    video_tokenizer: VideoVAE,
    device: torch.device,
    limit: int,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[torch.Tensor]:
    """float32 [48, T, h, w] for every request, in order. Neighbours of one shape share passes of `PASS_TOKENS`.

    limit: prompts are cut to so many tokens. on_step: called with the number of clips after each of their steps.
    """
    for _, alike in groupby(requests, key=lambda request: (request.shape, request.solver)):
        same_shape = list(alike)
        size = max(1, PASS_TOKENS // (2 * same_shape[0].tokens))
        for start in range(0, len(same_shape), size):
            group = same_shape[start : start + size]
            branches = _Branches(model, group, text, limit, device)
            yield from _denoise(branches, _initial(group, video_tokenizer, device), on_step)


@torch.no_grad()
def _denoise(
    branches: _Branches, latents: torch.Tensor, on_step: Callable[[int], None] | None
) -> Sequence[torch.Tensor]:
    """Latents [B, 48, T, h, w] without noise; condition frames stay as they are."""
    group, settings = branches.group, branches.group[0].solver
    condition_frames = torch.tensor([request.num_condition_frames for request in group], device=latents.device)
    noise_mask = frame_noise_mask(condition_frames, latents.shape[2])
    timesteps, sums = solver_sums(settings.steps, settings.shift)
    sums = sums.to(latents.device)
    history = latents.new_empty(1 + settings.steps, *latents.shape)
    history[0] = latents
    for index, timestep in enumerate(timesteps):
        history[index + 1] = branches.velocity(latents, timestep) * noise_mask
        summands = history[: index + 2]
        latents = torch.mv(summands.flatten(1).T, sums[index, : len(summands)]).view_as(latents)
        if on_step is not None:
            on_step(len(group))
    if not bool(latents.isfinite().all()):
        logger.warning("the model's outputs are NaN or infinite, as after training diverged: a clip shows nothing")
    return list(latents)


@torch.no_grad()
def _initial(group: Sequence[SampleRequest], video_tokenizer: VideoVAE, device: torch.device) -> torch.Tensor:
    """Noise, float32 [B, 48, T, H, W], with the latents of the condition frames in place."""
    shape = (CHANNELS, *group[0].shape)
    draws = [np.random.RandomState(request.seed).standard_normal(shape) for request in group]
    latents = torch.tensor(np.stack(draws), dtype=torch.float32, device=device)
    for index, request in enumerate(group):
        if request.condition is not None:
            condition = video_tokenizer.encode(request.condition[None].to(device))[0]
            latents[index, :, : condition.shape[1]] = condition
    return latents


class _Branches:
    """Prompts and negative prompts of clips that are denoised together; the text of each is computed once.

    Both run in one pass if that is small enough and both are always needed, else one after the other.
    """

    def __init__(
        self,
        model: Cosmos3Network,
        group: Sequence[SampleRequest],
        text: TextTokens,
        limit: int,
        device: torch.device,
    ) -> None:
        self.model, self.group = model, group
        settings = group[0].solver
        prompts = [[request.caption for request in group]]
        if settings.guidance != 1:
            prompts.append([request.negative for request in group])
        together = settings.interval is None and len(prompts) * len(group) * group[0].tokens <= PASS_TOKENS
        if together:
            prompts = [[prompt for branch in prompts for prompt in branch]]
        self.passes: list[tuple[PackedInputs, TextCache]] = [
            (self._inputs(branch, text, limit, device), model.empty_text_cache()) for branch in prompts
        ]

    def _inputs(self, prompts: list[str], text: TextTokens, limit: int, device: torch.device) -> PackedInputs:
        """Of the clips, once for each `len(group)` prompts."""
        clips = [*self.group] * (len(prompts) // len(self.group))
        specs = [
            SequenceSpec(text.ids(prompt, limit), clip.shape, clip.fps, clip.num_condition_frames)
            for clip, prompt in zip(clips, prompts, strict=True)
        ]
        return pack_inputs(specs).to(device)

    def velocity(self, latents: torch.Tensor, timestep: float) -> torch.Tensor:
        """Velocity, float32; guided: v_u + g (v_c - v_u)."""
        settings, batch = self.group[0].solver, len(latents)
        tokens = patchify(latents).flatten(0, 1)
        outputs = []
        for inputs, cache in self.passes if settings.guides(timestep) else self.passes[:1]:
            copies = len(inputs.sequences.text.lengths) // batch
            sigmas = torch.full((copies * batch,), timestep / 1000, device=latents.device)
            outputs.append(self.model(tokens.repeat(copies, 1), sigmas, inputs, cache))
        by_prompt = torch.cat(outputs).view(-1, batch, len(tokens) // batch, tokens.shape[-1])
        velocity = by_prompt[0]
        if len(by_prompt) > 1:
            velocity = by_prompt[1] + settings.guidance * (by_prompt[0] - by_prompt[1])
        return unpatchify(velocity.float(), tuple(latents.shape[1:]))
