"""The generator as a model family: flow matching on video latents, given captions."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cosmos_core.data import Item, UnreadableSample, VideoText
from cosmos_core.distributed import ContextGroup, Mesh, Streams, dtype, shard, transferred
from cosmos_core.optim import initialise_lora, inject_lora
from cosmos_core.train import BuildContext, ModelFamily, StepOutput
from cosmos_vfm.batch import Prepared, VideoBatch, collate
from cosmos_vfm.cache import Cached, LatentCache, codec_identity, text_identity
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.flow.levels import draw_sigma, quantile, shift_for, shifted
from cosmos_vfm.flow.objective import interpolate, item_losses, noisy_frames
from cosmos_vfm.initialise import initialise
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.network.backends import describe_backend
from cosmos_vfm.network.patches import patchify, unpatchify
from cosmos_vfm.packing import Layout
from cosmos_vfm.parallel import parallelize_layers
from cosmos_vfm.sampling import SampleRequest, generate
from cosmos_vfm.sizes import MODEL_SIZES
from cosmos_vfm.tokenizer import VideoCodec, build_text_tokenizer, build_video_codec
from cosmos_vfm.tokenizer.video import SPATIAL, TEMPORAL, latent_shape

__all__ = ["VfmFamily"]

logger = logging.getLogger(__name__)

GOLDEN = (5**0.5 - 1) / 2


class VfmFamily(ModelFamily):
    """ModelFamily of the generator. The frozen codec loads on first use, so that loader workers never hold it."""

    def __init__(self, config: VfmConfig, context: BuildContext) -> None:
        super().__init__(config, context)
        self.config = config
        self.network = MODEL_SIZES[config.tier]
        self.precision = dtype(config.precision)
        self.text = build_text_tokenizer(config.text_tokenizer, self.network)
        self._codec: VideoCodec | None = None
        self._compiles_codec = False
        self.cache = self.open_cache(context.data.cache) if context.data.cache is not None else None

    @property
    def max_pack_tokens(self) -> int | None:
        """``model.max_num_tokens_after_packing``, None without."""
        cap = self.config.max_num_tokens_after_packing
        return cap if cap > 0 else None

    def open_cache(self, folder: str, *, create: bool = False) -> LatentCache:
        """The latent cache in a folder. Raises UserError when it is of another codec."""
        text = text_identity(self.config, self.network, self.context.data.max_caption_tokens)
        return LatentCache(Path(folder), codec_identity(self.config), text, create=create)

    def __getstate__(self) -> dict[str, Any]:
        """Without the codec, for loader workers."""
        return {**self.__dict__, "_codec": None}

    @property
    def codec(self) -> VideoCodec:
        """The frozen video codec, on the run's device."""
        if self._codec is None:
            self._codec = build_video_codec(self.config.tokenizer, self.precision).to(self.context.device)
            if self._compiles_codec:
                self._codec.compile()
        return self._codec

    def compile_codec(self) -> None:
        """Compile the codec's encoder, now or, when nothing was encoded yet, as soon as it is loaded."""
        self._compiles_codec = True
        if self._codec is not None:
            self._codec.compile()

    def build(self) -> nn.Module:
        """The network of this model size, with adapters if they are switched on."""
        model = Cosmos3Network(self.network, self.config.joint_attn_implementation)
        inject_lora(model, self.config)
        return model

    def parallelize(self, model: nn.Module, mesh: Mesh) -> None:
        """Recompute, compile, split sequences, shard, layer by layer."""
        assert isinstance(model, Cosmos3Network)
        if mesh.rank == 0:
            logger.info("attention: %s", describe_backend(self.config.joint_attn_implementation, mesh.device))
        parallelize_layers(model.layers, self.config)
        if mesh.context_group is not None:
            degree = mesh.degrees.context
            model.context = ContextGroup(mesh.context_group, mesh.rank % degree, degree)
        shard(model, model.layers, mesh, self.config.parallelism, self.config.precision)

    def initialize(self, model: nn.Module, streams: Streams, names: Collection[str]) -> None:
        """Fresh values. The codec is loaded, so that files which are not one are found out before anything trains."""
        if self.cache is None:
            _ = self.codec
        initialise(model, streams, self.network.layers, names)
        initialise_lora(model, streams, names)

    def prepare(self, sample: VideoText) -> Prepared:
        """Tokenise and lay out a clip. Raises UnreadableSample for sizes that the codec cannot take."""
        _, frames, height, width = sample.video.shape
        if frames % TEMPORAL != 1 or height % SPATIAL or width % SPATIAL:
            raise UnreadableSample(sample.key, f"{frames} frames of {width}x{height} do not fit the codec")
        kept = self._cached(sample)
        ids = kept.ids if kept is not None else None
        if ids is None:
            ids = self.text.ids(sample.caption, self.context.data.max_caption_tokens)
        shape = latent_shape(frames, height, width)
        clean = min(sample.condition_frames, shape[0] - 1)
        video = sample.pixels() if kept is None else kept.latents
        return Prepared(sample.key, video, Layout(ids, shape, sample.fps, clean))

    def _cached(self, sample: VideoText) -> Cached | None:
        if self.cache is None or isinstance(sample.video, torch.Tensor):
            return None
        return self.cache.read(sample.video.identity(), sample.caption)

    def num_tokens(self, value: Prepared) -> int:
        """Tokens of both towers, counted one too many as the base models' loader did.

        See docs/models/generator.md, Token budget.
        """
        return len(value.layout.text_ids) + value.layout.latent_tokens + 1

    def collate(self, items: Sequence[Item]) -> VideoBatch:
        """One packed micro-batch."""
        return collate(list(items))

    def loss_denominator(self, batch: VideoBatch) -> float:
        """Every clip counts the same."""
        return float(len(batch.positions))

    def training_step(self, model: nn.Module, batch: VideoBatch, streams: Streams) -> StepOutput:
        """Loss summed over the clips, each with its own noise level and noise."""
        sigma = [
            draw_sigma(distribution, shift, streams.generator("sigma", position))
            for position, (distribution, shift) in zip(batch.positions, self._levels(batch), strict=True)
        ]
        losses = self._losses(model, batch, torch.tensor(sigma), streams)
        return StepOutput(loss=(losses * self._scales(batch, losses.device)).sum(), tokens=batch.tokens)

    def validation_step(self, model: nn.Module, batch: VideoBatch, streams: Streams) -> dict[str, torch.Tensor]:
        """Summed loss at noise levels that spread evenly over the training distribution, fixed by position."""
        sigma = [
            float(shifted(quantile(torch.tensor((0.5 + position * GOLDEN) % 1), distribution), shift))
            for position, (distribution, shift) in zip(batch.positions, self._levels(batch), strict=True)
        ]
        losses = self._losses(model, batch, torch.tensor(sigma), streams)
        return {"val_loss": losses.sum(), "weight": torch.tensor(float(len(losses)), device=losses.device)}

    def sample(
        self,
        model: nn.Module,
        requests: Sequence[SampleRequest],
        *,
        seed: int,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
    ) -> list[torch.Tensor]:
        """Generated clips, uint8 [3, T, H, W] each; absent settings come from ``[model.sampling]``."""
        defaults = self.config.sampling
        return generate(
            model,
            requests,
            text=self.text,
            codec=self.codec,
            device=self.context.device,
            limit=self.context.data.max_caption_tokens,
            seed=seed,
            steps=defaults.steps if steps is None else steps,
            guidance=defaults.guidance if guidance is None else guidance,
            shift=defaults.shift if shift is None else shift,
        )

    def _levels(self, batch: VideoBatch) -> list[tuple[str, float]]:
        """Noise distribution and shift of every clip."""
        flow, levels = self.config.flow, []
        for run in batch.videos:
            count, _, frames, height, width = run.shape
            if run.is_floating_point():
                height, width = SPATIAL * height, SPATIAL * width
            distribution = flow.image_distribution if frames == 1 else flow.video_distribution
            levels += [(distribution, shift_for(flow.shift, width, height))] * count
        return levels

    def _scales(self, batch: VideoBatch, device: torch.device) -> torch.Tensor:
        flow = self.config.flow
        image = flow.loss_scale if flow.image_loss_scale is None else flow.image_loss_scale
        scales = [image if run.shape[2] == 1 else flow.loss_scale for run in batch.videos for _ in range(len(run))]
        return transferred(torch.tensor(scales), device)

    def _losses(self, model: nn.Module, batch: VideoBatch, sigma: torch.Tensor, streams: Streams) -> torch.Tensor:
        """Loss of every clip, float32 [B], in sample order."""
        device = batch.clean.device
        sigma = transferred(sigma, device)
        tokens, targets, start = [], [], 0
        for run in batch.videos:
            with torch.no_grad():
                latents = run if run.is_floating_point() else self.codec.encode(run)
            part = slice(start, start + len(run))
            noise = torch.stack(
                [
                    torch.randn(
                        latents.shape[1:], device=device, generator=streams.generator("noise", position, device=device)
                    )
                    for position in batch.positions[part]
                ]
            )
            noisy = noisy_frames(batch.clean[part], latents.shape[2])
            noised, target = interpolate(latents, noise, sigma[part], noisy)
            tokens.append(patchify(noised.to(self.precision)).flatten(0, 1))
            targets.append((target, noisy))
            start += len(run)
        velocity = model(torch.cat(tokens), sigma, batch.pack)
        return _compare(velocity, targets, [len(part) for part in tokens], self.config.flow.normalize_loss_by_active)


def _compare(
    velocity: torch.Tensor, targets: list[tuple[torch.Tensor, torch.Tensor]], sizes: list[int], by_active: bool
) -> torch.Tensor:
    losses = []
    for (target, noisy), part in zip(targets, velocity.split(sizes), strict=True):
        predicted = unpatchify(part.view(len(target), -1, part.shape[-1]), tuple(target.shape[1:]))
        losses.append(item_losses(predicted, target, noisy, by_active=by_active))
    return torch.cat(losses)
