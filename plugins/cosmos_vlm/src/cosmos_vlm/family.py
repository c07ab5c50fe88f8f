"""The reasoner as a model family: next-token prediction on the assistant's messages, over packed dialogs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import torch
from attrs import evolve
from torch import nn

from cosmos_core.config import RunConfig, TypicalSample
from cosmos_core.data import Answer, Chat, Item
from cosmos_core.distributed import CounterRng, Mesh, compile_fn, dtype, page_locked, shard
from cosmos_core.optim import initialise_lora, inject_lora, is_lora
from cosmos_core.train import BuildContext, Estimate, ModelFamily, ModelInput, StepOutput
from cosmos_vlm.architecture import architecture_of, cut
from cosmos_vlm.attention import register
from cosmos_vlm.batch import ChatBatch, collate
from cosmos_vlm.blocks import parallelize_blocks
from cosmos_vlm.catalog import is_hub_name, pinned
from cosmos_vlm.chat_processor import IGNORE_INDEX, ChatProcessor, TokenizedConversation
from cosmos_vlm.chat_template import asked_in
from cosmos_vlm.config import Backbone, VlmConfig
from cosmos_vlm.estimate import estimate
from cosmos_vlm.flops import BackwardOfParts, language_flops, tower_flops
from cosmos_vlm.freeze import freeze
from cosmos_vlm.generation import generate
from cosmos_vlm.loss import chunk_loss
from cosmos_vlm.network import ReasonerNetwork
from cosmos_vlm.processor_files import pixel_limits
from cosmos_vlm.shorten import limits_that_fit, truncated
from cosmos_vlm.tokenizer import tokenizer_of
from cosmos_vlm.vision import MERGE, frames_of
from cosmos_vlm.weights import config_folder, fresh_weights, load_weights, restore_buffers, snapshot

__all__ = ["VlmFamily"]

ANSWER_TOKENS = 64


class VlmFamily(ModelFamily):
    """ModelFamily of the reasoner; every learned token counts the same."""

    def __init__(self, config: VlmConfig, context: BuildContext) -> None:
        super().__init__(config, context)
        self.config = config
        self.precision = dtype(config.precision)
        self.folder = config_folder(config.backbone)
        self.architecture = architecture_of(self.folder)
        if config.num_layers is not None:
            cut(self.architecture, config.num_layers)
        implementation = config.attn_implementation
        self.architecture._attn_implementation = register() if implementation == "cosmos" else implementation
        tokenizer = tokenizer_of(self.folder, self.architecture)
        self.processor = ChatProcessor(tokenizer, pixel_limits(config, self.folder))
        self._backward: BackwardOfParts | None = None

    @classmethod
    def estimate(cls, config: RunConfig, sample: TypicalSample | None = None, memory: float | None = None) -> Estimate:
        """What a full micro-batch of usual dialogs costs."""
        return estimate(config, sample, memory)

    @property
    def num_layers(self) -> int | None:
        """``model.num_layers``."""
        return self.config.num_layers

    @property
    def source_revisions(self) -> dict[str, str]:
        """Repository and commit of what came from the Hub, by key; weights are absent if a checkpoint holds them."""
        backbone = self.config.backbone
        fetched = {"model.backbone.model_name": (backbone.model_name, self.folder)}
        if backbone.safetensors_path and "weights_folder" in vars(self) and self.weights_folder is not None:
            fetched["model.backbone.safetensors_path"] = (backbone.safetensors_path, self.weights_folder)
        return {
            key: f"{pinned(name)[0]}@{folder.name}"
            for key, (name, folder) in fetched.items()
            if is_hub_name(name) and folder != Path(backbone.safetensors_path or "")
        }

    @cached_property
    def weights_folder(self) -> Path | None:
        """Folder of the backbone's weights, fetched if necessary; None for fresh weights."""
        backbone = self.config.backbone
        if self.config.init == "random":
            return None
        return snapshot(backbone.safetensors_path or backbone.model_name, ["*.safetensors*"])

    def build(self) -> nn.Module:
        """The network, with its parts frozen and adapters added as configured."""
        model = ReasonerNetwork(self.architecture, self.config.loss_chunk_size)
        freeze(model, self.config.freeze)
        inject_lora(model, self.config)
        return model

    @classmethod
    def settings_of(cls, config: VlmConfig, folder: Path) -> VlmConfig:
        """Configuration, tokenizer, processor and weights of a published folder; `initialize` reads them."""
        backbone = Backbone(model_name=str(folder))
        return evolve(config, backbone=backbone, init="pretrained", lora_enabled=False)

    @classmethod
    def answering(cls, config: VlmConfig) -> VlmConfig:
        """With answers of at most 64 tokens, unless `max_new_tokens` says more or fewer."""
        return evolve(config, max_new_tokens=config.max_new_tokens or ANSWER_TOKENS)

    def parallelize(self, model: nn.Module, mesh: Mesh) -> None:
        """Checkpoint activations, compile and shard, block by block."""
        assert isinstance(model, ReasonerNetwork)
        parallelize_blocks(model, self.config, packed=self.config.attn_implementation == "cosmos")
        model.chunk_loss = compile_fn(chunk_loss, self.config.compile)
        model.is_single_process = mesh.world == 1
        shard(model, model.blocks, mesh, self.config.parallelism, self.config.precision)

    def initialize(self, model: nn.Module, rng: CounterRng, names: Collection[str]) -> None:
        """Pretrained weights from the backbone's files, or fresh ones with ``init = "random"``.

        The files are not opened when a checkpoint holds all weights.
        """
        assert isinstance(model, ReasonerNetwork)
        restore_buffers(model)
        initialise_lora(model, rng, names)
        base_names = {name for name, _ in model.named_parameters() if name in names and not is_lora(name)}
        if not base_names:
            return
        if self.weights_folder is None:
            fresh_weights(model, rng, base_names)
        else:
            load_weights(model, self.weights_folder, base_names)

    def prepare(self, sample: Chat) -> TokenizedConversation:
        """Tokens, labels, positions and patches."""
        return self.processor.encode(sample)

    def shorten(
        self, sample: Chat, value: TokenizedConversation, policy: str, max_tokens: int
    ) -> TokenizedConversation:
        """The dialog with smaller images and videos ('resize'), or without the end of its last answer."""
        if policy == "resize":
            limits = limits_that_fit(sample, value, self.processor.limits, max_tokens)
            return self.processor.encode(sample, limits)
        return truncated(value, max_tokens)

    def model_input(self, value: TokenizedConversation) -> ModelInput:
        """Images and frames as the vision tower takes them, an odd last frame repeated, and every token's text."""
        sizes = [count * h * w for count, (_, h, w) in zip(value.num_frames, value.grids, strict=True)]
        tokens = value.ids[value.visual_token_indices].split([t * h * w // MERGE**2 for t, h, w in value.grids])
        image = self.processor.special["<|image_pad|>"]
        media = []
        for patches, grid, pads in zip(value.patches.split(sizes), value.grids, tokens, strict=True):
            frames = list(frames_of(patches, grid))
            media.append((*frames, *frames[-1:] * (len(frames) % 2 if pads[0] != image else 0)))
        learned = groupby(zip(value.ids.tolist(), (value.labels != IGNORE_INDEX).tolist(), strict=True), itemgetter(1))
        text = tuple(
            (self.processor.tokenizer.decode([token for token, _ in run]), is_learned) for is_learned, run in learned
        )
        asked = asked_in("".join(piece for piece, _ in text))
        return ModelInput(tuple(media), text, question=asked)

    def num_tokens(self, value: TokenizedConversation) -> int:
        """Tokens of the conversation, visual tokens included."""
        return len(value.ids)

    def kind(self, value: TokenizedConversation) -> str:
        """'text', 'image' or 'video'."""
        return value.kind

    def collate(self, items: Sequence[Item]) -> ChatBatch:
        """One packed micro-batch."""
        batch = collate(items)
        return replace(batch, patches=page_locked(batch.patches, self.context.device))

    def loss_denominator(self, batch: ChatBatch) -> float:
        """Number of learned tokens."""
        return float(len(batch.target_indices))

    def training_step(self, model: nn.Module, batch: ChatBatch, rng: CounterRng) -> StepOutput:
        """Cross-entropy summed over the learned tokens, in a mixture also by conversation."""
        flops, by_sample = self._flops(model, batch), bool(self.context.data.mixture)
        loss, samples = model(batch, by_sample=True) if by_sample else (model(batch), None)
        return StepOutput(loss=loss, tokens=len(batch.ids), flops=flops, samples=samples)

    def _flops(self, model: nn.Module, batch: ChatBatch) -> float:
        if self._backward is None:
            self._backward = BackwardOfParts.of(model)
        parts, config = self._backward, self.architecture
        language = language_flops(config.text_config, batch.lengths, len(batch.target_indices), parts.language)
        return language + tower_flops(config.vision_config, batch.vision_seqlens, parts.tower, parts.mergers)

    def validation_step(self, model: nn.Module, batch: ChatBatch, rng: CounterRng) -> dict[str, torch.Tensor]:
        """The same, and the number of learned tokens."""
        weight = torch.tensor(self.loss_denominator(batch), device=batch.ids.device)
        return {"val_loss": model(batch), "loss_denominator": weight}

    @property
    def num_sample_answers(self) -> int:
        """As configured; 0 unless `max_new_tokens` is set."""
        return self.config.num_sample_answers if self.config.max_new_tokens else 0

    def answers(self, model: nn.Module, batch: ChatBatch) -> list[Answer]:
        """Greedy answers in place of each assistant's last message; [] unless `max_new_tokens` is set."""
        if not self.config.max_new_tokens:
            return []
        generated = generate(
            model,
            batch,
            max_new_tokens=self.config.max_new_tokens,
            prompt=self.processor.generation_prompt,
            eos_token_id=self.processor.special["<|im_end|>"],
        )
        predictions = [self.processor.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in generated]
        return [Answer(*values) for values in zip(batch.keys, predictions, batch.references, strict=True)]
