"""The generator as a model family: flow matching on video latents with captions."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from attrs import evolve, frozen
from torch import nn

from cosmos_core.config import RunConfig, TypicalSample
from cosmos_core.data import Item, UnreadableSample, VideoText
from cosmos_core.distributed import ContextGroup, CounterRng, Mesh, dtype, page_locked, shard, to_device
from cosmos_core.optim import initialise_lora, inject_lora
from cosmos_core.train import Backward, BuildContext, Estimate, ModelFamily, ModelInput, StepOutput
from cosmos_vfm.batch import Prepared, VideoBatch, collate
from cosmos_vfm.cache import (
    LatentCache,
    LatentWriter,
    clip_identity,
    open_automatic,
    text_identity,
    video_tokenizer_identity,
)
from cosmos_vfm.checkpoints.load import load_published, settings_of
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.estimate import estimate
from cosmos_vfm.flops import backward_of_towers, training_flops
from cosmos_vfm.flow.objective import frame_noise_mask, interpolate, item_losses
from cosmos_vfm.flow.sigmas import draw_sigma, inverse_cdf, shift_for, time_shift
from cosmos_vfm.initialise import initialise
from cosmos_vfm.network import Cosmos3Network, PackedInputs
from cosmos_vfm.network.backends import describe_backend
from cosmos_vfm.network.patches import patchify, unpatchify
from cosmos_vfm.packing import SequenceSpec
from cosmos_vfm.parallel import parallelize_layers
from cosmos_vfm.sampling import SampleRequest, SolverSettings, sample_latents
from cosmos_vfm.tokenizer import VideoVAE, build_text_tokenizer, build_video_tokenizer, import_ahead
from cosmos_vfm.tokenizer.video import CHANNELS, SPATIAL, TEMPORAL, latent_shape

__all__ = ["VfmFamily"]

logger = logging.getLogger(__name__)

FLOAT32_BYTES = 4
GOLDEN_RATIO = (5**0.5 - 1) / 2


@frozen(eq=False)
class _Clips:
    """Clips of one shape: latents and noise [b, 48, T, H, W], and the mask of the frames that get noise."""

    latents: torch.Tensor
    noise: torch.Tensor
    noise_mask: torch.Tensor


class VfmFamily(ModelFamily):
    """ModelFamily of the generator. The frozen video tokenizer loads on first use, so loader workers never load it."""

    def __init__(self, config: VfmConfig, context: BuildContext) -> None:
        super().__init__(config, context)
        self.config = config
        self.network = config.network
        self.precision = dtype(config.precision)
        self.text = build_text_tokenizer(config.text_tokenizer, self.network)
        self._video_tokenizer: VideoVAE | None = None
        self._importing: Thread | None = None
        self._compile_on_load = False
        self._backward: tuple[Backward, Backward] | None = None
        self.cache: LatentCache | None = None
        self._writer: LatentWriter | None = None
        if context.data.fills_cache:
            remembered = Path(context.data.cache_dir) if context.data.cache_dir is not None else None
            video_tokenizer = video_tokenizer_identity(config, remembered)
            self.cache = open_automatic(context.data, video_tokenizer, self._text_identity())
            self._writer = LatentWriter(self.cache) if self.cache is not None else None
        elif context.data.cache is not None:
            self.cache = self.open_cache(context.data.cache)

    @property
    def num_layers(self) -> int | None:
        """``model.num_layers``."""
        return self.config.num_layers

    @property
    def max_pack_tokens(self) -> int | None:
        """``model.max_num_tokens_after_packing``; None when it is not set."""
        cap = self.config.max_num_tokens_after_packing
        return cap if cap > 0 else None

    def open_cache(self, folder: str, *, create: bool = False) -> LatentCache:
        """The latent cache in a folder. Raises UserError when another video tokenizer made it."""
        place = Path(folder)
        # A digest of gigabytes is kept there, but no folder is made of a name that was mistyped.
        identity = video_tokenizer_identity(self.config, place if create or place.is_dir() else None)
        return LatentCache(place, identity, self._text_identity(), create=create)

    def _text_identity(self) -> str:
        return text_identity(self.config, self.network, self.context.data.max_caption_tokens)

    def __getstate__(self) -> dict[str, Any]:
        """State for loader workers, which only read the cache, without the video tokenizer."""
        return {**self.__dict__, "_video_tokenizer": None, "_importing": None, "_writer": None}

    @property
    def video_tokenizer(self) -> VideoVAE:
        """The frozen video tokenizer, on the run's device."""
        if self._video_tokenizer is None:
            self._video_tokenizer = build_video_tokenizer(self.config.tokenizer, self.precision).to(self.context.device)
            if self._compile_on_load:
                self._video_tokenizer.compile()
        return self._video_tokenizer

    @classmethod
    def estimate(cls, config: RunConfig, sample: TypicalSample | None = None, memory: float | None = None) -> Estimate:
        """What a full micro-batch of usual clips costs."""
        return estimate(config, sample, memory)

    def move_to(self, device: torch.device) -> None:
        """Compute there from now on; the network stays where it is."""
        self.context = replace(self.context, device=device)
        if self._video_tokenizer is not None:
            self._video_tokenizer = self._video_tokenizer.to(device)

    def compile_video_tokenizer(self) -> None:
        """Compile the encoder of the video tokenizer, now or when it is loaded."""
        self._compile_on_load = True
        if self._video_tokenizer is not None:
            self._video_tokenizer.compile()

    def build(self) -> nn.Module:
        """The network of this model size, with adapters if they are enabled."""
        model = Cosmos3Network(self.network, self.config.joint_attn_implementation)
        inject_lora(model, self.config)
        return model

    def parallelize(self, model: nn.Module, mesh: Mesh) -> None:
        """Activation checkpointing, compilation, context parallelism and sharding, layer by layer."""
        assert isinstance(model, Cosmos3Network)
        if mesh.rank == 0:
            logger.info("attention: %s", describe_backend(self.config.joint_attn_implementation, mesh.device))
        self._importing = import_ahead(self.config.tokenizer)
        parallelize_layers(model.layers, self.config)
        if mesh.context_group is not None:
            degree = mesh.degrees.context
            model.context = ContextGroup(mesh.context_group, mesh.rank % degree, degree)
        shard(model, (*model.layers, *model.vocabulary), mesh, self.config.parallelism, self.config.precision)

    def initialize(self, model: nn.Module, rng: CounterRng, names: Collection[str]) -> None:
        """Fresh values. Loads the video tokenizer too, so that bad files are reported before training starts."""
        if self._importing is not None:
            self._importing.join()  # Loader workers must not be forked while a thread imports.
        if self.cache is None or self.cache.is_empty:
            _ = self.video_tokenizer
        initialise(model, rng, self.network.layers, names)
        initialise_lora(model, rng, names)

    @classmethod
    def settings_of(cls, config: VfmConfig, folder: Path) -> VfmConfig:
        """Model size and tokenizers of a base or a published folder."""
        return settings_of(config, folder)

    def load_published(self, model: nn.Module, folder: Path) -> frozenset[str]:
        """Tensor by tensor, under the network's names."""
        return load_published(model, folder)

    def prepare(self, sample: VideoText) -> Prepared:
        """Tokenize a clip and describe its tokens. Raises UnreadableSample when its size does not fit."""
        _, frames, height, width = sample.video.shape
        if frames % TEMPORAL != 1 or height % SPATIAL or width % SPATIAL:
            raise UnreadableSample(sample.key, f"{frames} frames of {width}x{height} do not fit the video tokenizer")
        shape = latent_shape(frames, height, width)
        identity = self._identity(sample)
        cached = self.cache.read(identity, sample.caption) if self.cache is not None and identity else None
        if cached is not None and cached.latents.shape[1:] != shape:
            cached = None
        ids = cached.ids if cached is not None else None
        if ids is None:
            ids = self.text.ids(sample.caption, self.context.data.max_caption_tokens)
        spec = SequenceSpec(ids, shape, sample.fps, min(sample.condition_frames, shape[0] - 1))
        if cached is not None:
            return Prepared(sample.key, cached.latents, spec)
        return Prepared(sample.key, sample.pixels(), spec, identity if self.context.data.fills_cache else "")

    def _identity(self, sample: VideoText) -> str:
        """What the cache calls a clip; "" without one, and for pixels, which `cosmos data cache` does not list."""
        if self.cache is None or (isinstance(sample.video, torch.Tensor) and not self.context.data.fills_cache):
            return ""
        return clip_identity(sample.video)

    def model_input(self, value: Prepared) -> ModelInput:
        """Frames as the video tokenizer takes them, and the caption in its template; no text is learned."""
        media = (tuple(value.video.transpose(0, 1)),) if value.video.dtype == torch.uint8 else ()
        text = self.text.encoder.decode(list(value.spec.text_ids))
        size = FLOAT32_BYTES * CHANNELS * prod(value.spec.shape)
        return ModelInput(media, ((text, False),), value.spec.num_condition_frames, size)

    def num_tokens(self, value: Prepared) -> int:
        """Tokens of both towers plus one, as the loader of the base models counted.

        See docs/models/generator.md, Token budget.
        """
        return len(value.spec.text_ids) + value.spec.latent_tokens + 1

    def collate(self, items: Sequence[Item]) -> VideoBatch:
        """One packed micro-batch."""
        batch = collate(list(items))
        return replace(batch, videos=tuple(page_locked(group, self.context.device) for group in batch.videos))

    def loss_denominator(self, batch: VideoBatch) -> float:
        """Number of clips: all clips have the same weight."""
        return float(len(batch.positions))

    def training_step(self, model: nn.Module, batch: VideoBatch, rng: CounterRng) -> StepOutput:
        """Loss summed over the clips. Each clip has its own sigma and noise."""
        sigma = [
            draw_sigma(distribution, shift, rng.generator("sigma", position))
            for position, (distribution, shift) in zip(batch.positions, self._sigma_distributions(batch), strict=True)
        ]
        losses = self._losses(model, self._with_noise(model, batch, rng), torch.tensor(sigma), batch.inputs)
        losses = losses * self._scales(batch, losses.device)
        samples = torch.stack([losses.detach(), torch.ones_like(losses)])
        return StepOutput(
            loss=losses.sum(),
            tokens=batch.tokens,
            metrics=self._cache_hits(batch, losses.device),
            flops=self._flops(model, batch),
            samples=samples,
        )

    def _cache_hits(self, batch: VideoBatch, device: torch.device) -> dict[str, torch.Tensor]:
        """Clips that were encoded before; of all ranks the same name, whether or not their cache can be written."""
        if self.context.data.cache is None:
            return {}
        hits = sum(len(group) for group in batch.videos if group.is_floating_point())
        return {"cache_hit_rate": torch.full((), float(hits), device=device)}

    def _flops(self, model: nn.Module, batch: VideoBatch) -> float:
        if self._backward is None:
            self._backward = backward_of_towers(model)
        sequences = batch.inputs.sequences
        return training_flops(self.network, sequences.text.lengths, sequences.latents.lengths, self._backward)

    def validation_step(self, model: nn.Module, batch: VideoBatch, rng: CounterRng) -> dict[str, torch.Tensor]:
        """Summed loss at sigmas that spread evenly over the training distribution and depend only on the position.

        Beside it the loss at each of ``model.validation.noise_levels``, and how much it rises with swapped captions.
        """
        spread = [
            float(time_shift(inverse_cdf(torch.tensor((0.5 + position * GOLDEN_RATIO) % 1), distribution), shift))
            for position, (distribution, shift) in zip(batch.positions, self._sigma_distributions(batch), strict=True)
        ]
        sigma, clips, measured = torch.tensor(spread), self._with_noise(model, batch, rng), self.config.validation
        losses = self._losses(model, clips, sigma, batch.inputs)
        sums = {"val_loss": losses.sum(), "loss_denominator": torch.tensor(float(len(losses)), device=losses.device)}
        for level in measured.noise_levels:
            at_level = self._losses(model, clips, torch.full_like(sigma, level), batch.inputs)
            sums[f"val_loss_sigma_{level:g}"] = at_level.sum()
        if measured.caption_effect:
            swapped, changed = batch.with_swapped_captions()
            rise = self._losses(model, clips, sigma, swapped) - losses
            counted = torch.tensor(changed, dtype=rise.dtype, device=rise.device)
            sums |= {"caption_effect": (rise * counted).sum(), "caption_effect_denominator": counted.sum()}
        return sums

    def sample(
        self,
        model: nn.Module,
        requests: Sequence[SampleRequest],
        *,
        seed: int,
        seeds: Sequence[int | None] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
    ) -> list[torch.Tensor]:
        """Generated clips, uint8 [3, T, H, W] each; unset options come from ``[model.sampling]``.

        Clip i uses the seed `seed + i`, or its own of `seeds`. Captions are cut as in training.
        """
        defaults = self.config.sampling
        solver = SolverSettings(
            steps=defaults.steps if steps is None else steps,
            guidance=defaults.guidance if guidance is None else guidance,
            shift=defaults.shift if shift is None else shift,
        )
        seeded = [
            evolve(request, seed=seed + index if own_seed is None else own_seed, solver=solver)
            for index, (request, own_seed) in enumerate(zip(requests, seeds or [None] * len(requests), strict=True))
        ]
        return list(self.clips(model, seeded, limit=self.context.data.max_caption_tokens))

    def clips(
        self,
        model: nn.Module,
        requests: Sequence[SampleRequest],
        *,
        limit: int,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[torch.Tensor]:
        """Clips on the CPU as their requests say, in order, uint8 [3, T, H, W]; arguments as of `sample_latents`."""
        assert isinstance(model, Cosmos3Network)
        video_tokenizer = self.video_tokenizer
        for latents in sample_latents(
            model,
            requests,
            text=self.text,
            video_tokenizer=video_tokenizer,
            device=self.context.device,
            limit=limit,
            on_step=on_step,
        ):
            yield video_tokenizer.decode(latents[None])[0].cpu()

    def _sigma_distributions(self, batch: VideoBatch) -> list[tuple[str, float]]:
        """Distribution of sigma before the shift, and the shift, of every clip."""
        flow, distributions = self.config.flow, []
        for group in batch.videos:
            count, _, frames, height, width = group.shape
            if group.is_floating_point():
                height, width = SPATIAL * height, SPATIAL * width
            distribution = flow.image_distribution if frames == 1 else flow.video_distribution
            distributions += [(distribution, shift_for(flow.shift, width, height))] * count
        return distributions

    def _latents(self, model: nn.Module, videos: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Latents of every group; those of one shape are encoded together."""
        latents, of_shape = list(videos), defaultdict[torch.Size, list[int]](list)
        for index, group in enumerate(videos):
            if not group.is_floating_point():
                of_shape[group.shape[1:]].append(index)
        for indices in of_shape.values():
            encoded = self._encoded(model, torch.cat([videos[index] for index in indices]))
            for index, part in zip(indices, encoded.split([len(videos[index]) for index in indices]), strict=True):
                latents[index] = part
        return latents

    def _encoded(self, model: nn.Module, clips: torch.Tensor) -> torch.Tensor:
        """Context-parallel peers have the same clips; each encodes some. With a cache they may lack other ones."""
        assert isinstance(model, Cosmos3Network)
        with torch.no_grad(), self.times.phase("vae"):
            if model.context is None or self.context.data.cache is not None:
                return self.video_tokenizer.encode(clips)
            return model.context.gather(self.video_tokenizer.encode(model.context.own(clips)), len(clips))

    def _scales(self, batch: VideoBatch, device: torch.device) -> torch.Tensor:
        flow = self.config.flow
        image = flow.loss_scale if flow.image_loss_scale is None else flow.image_loss_scale
        scales = [
            image if group.shape[2] == 1 else flow.loss_scale for group in batch.videos for _ in range(len(group))
        ]
        return to_device(torch.tensor(scales), device)

    def _with_noise(self, model: nn.Module, batch: VideoBatch, rng: CounterRng) -> list[_Clips]:
        """Latents and noise of each group of clips. The noise of a clip depends on its position alone."""
        device, groups, start = batch.num_condition_frames.device, [], 0
        for latents in self._latents(model, batch.videos):
            part = slice(start, start + len(latents))
            if self._writer is not None:
                self._writer.write(batch.identities[part], latents)
            drawn = (rng.generator("noise", position, device=device) for position in batch.positions[part])
            noise = torch.stack([torch.randn(latents.shape[1:], device=device, generator=each) for each in drawn])
            noise_mask = frame_noise_mask(batch.num_condition_frames[part], latents.shape[2])
            groups.append(_Clips(latents, noise, noise_mask))
            start += len(latents)
        return groups

    def _losses(
        self, model: nn.Module, clips: Sequence[_Clips], sigma: torch.Tensor, inputs: PackedInputs
    ) -> torch.Tensor:
        """Loss of every clip, float32 [B], in sample order. sigma: [B]."""
        sigma = to_device(sigma, clips[0].noise.device)
        tokens, targets = [], []
        for group, levels in zip(clips, sigma.split([len(group.noise) for group in clips]), strict=True):
            noised, target = interpolate(group.latents, group.noise, levels, group.noise_mask)
            tokens.append(patchify(noised.to(self.precision)).flatten(0, 1))
            targets.append((target, group.noise_mask))
        velocity = model(torch.cat(tokens), sigma, inputs)
        return _item_losses(
            velocity, targets, [len(part) for part in tokens], self.config.flow.normalize_loss_by_active
        )


def _item_losses(
    velocity: torch.Tensor, targets: list[tuple[torch.Tensor, torch.Tensor]], sizes: list[int], by_active: bool
) -> torch.Tensor:
    losses = []
    for (target, noise_mask), part in zip(targets, velocity.split(sizes), strict=True):
        predicted = unpatchify(part.view(len(target), -1, part.shape[-1]), tuple(target.shape[1:]))
        losses.append(item_losses(predicted, target, noise_mask, by_active=by_active))
    return torch.cat(losses)
