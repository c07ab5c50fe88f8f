"""The reasoner as a model family: next-token prediction of what the assistant says, over packed dialogs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from cosmos_core.data import Answer, Chat, Item
from cosmos_core.distributed import Mesh, Streams, compile_fn, dtype, shard
from cosmos_core.optim import initialise_lora, inject_lora, is_lora
from cosmos_core.train import BuildContext, ModelFamily, StepOutput
from cosmos_vlm.architecture import architecture_of
from cosmos_vlm.attention import register
from cosmos_vlm.batch import ChatBatch, collate
from cosmos_vlm.blocks import parallelize_blocks
from cosmos_vlm.catalog import pinned
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.dialog import Dialog, DialogEncoder
from cosmos_vlm.freeze import freeze
from cosmos_vlm.loss import chunk_loss
from cosmos_vlm.network import ReasonerNetwork
from cosmos_vlm.speech import speak
from cosmos_vlm.tokenizer import tokenizer_of
from cosmos_vlm.weights import CONFIGS, fresh_weights, is_fetched, load_weights, restore_buffers, snapshot

__all__ = ["VlmFamily"]


class VlmFamily(ModelFamily):
    """ModelFamily of the reasoner; every learned token counts the same."""

    def __init__(self, config: VlmConfig, context: BuildContext) -> None:
        super().__init__(config, context)
        self.config = config
        self.precision = dtype(config.precision)
        self.folder = snapshot(config.backbone.model_name, CONFIGS)
        self.architecture = architecture_of(self.folder)
        chosen = config.attn_implementation
        self.architecture._attn_implementation = register() if chosen == "cosmos" else chosen
        self.encoder = DialogEncoder(tokenizer_of(self.folder, self.architecture), config)

    @property
    def source_revisions(self) -> dict[str, str]:
        """Repository and commit of what came from the Hub, by key; weights that a checkpoint has were not fetched."""
        backbone = self.config.backbone
        named = {"model.backbone.model_name": (backbone.model_name, self.folder)}
        if backbone.safetensors_path and "weights_folder" in vars(self) and self.weights_folder is not None:
            named["model.backbone.safetensors_path"] = (backbone.safetensors_path, self.weights_folder)
        return {key: f"{pinned(name)[0]}@{folder.name}" for key, (name, folder) in named.items() if is_fetched(name)}

    @cached_property
    def weights_folder(self) -> Path | None:
        """Where the backbone's weights lie, fetched if need be; None for fresh ones."""
        backbone = self.config.backbone
        if self.config.init == "random":
            return None
        return snapshot(backbone.safetensors_path or backbone.model_name, ["*.safetensors*"])

    def build(self) -> nn.Module:
        """The network, with the frozen parts frozen and adapters if they are switched on."""
        model = ReasonerNetwork(self.architecture, self.config.loss_chunk_size)
        freeze(model, self.config.freeze)
        inject_lora(model, self.config)
        return model

    def parallelize(self, model: nn.Module, mesh: Mesh) -> None:
        """Recompute, compile, shard, block by block."""
        assert isinstance(model, ReasonerNetwork)
        parallelize_blocks(model, self.config, packed=self.config.attn_implementation == "cosmos")
        model.chunk_loss = compile_fn(chunk_loss, self.config.compile)
        model.alone = mesh.world == 1
        shard(model, model.blocks, mesh, self.config.parallelism, self.config.precision)

    def initialize(self, model: nn.Module, streams: Streams, names: Collection[str]) -> None:
        """Pretrained weights from the backbone's files, or fresh ones if asked for; its files are not looked at when
        a checkpoint has all."""
        assert isinstance(model, ReasonerNetwork)
        restore_buffers(model)
        initialise_lora(model, streams, names)
        wanted = {name for name, _ in model.named_parameters() if name in names and not is_lora(name)}
        if not wanted:
            return
        if self.weights_folder is None:
            fresh_weights(model, streams, wanted)
        else:
            load_weights(model, self.weights_folder, wanted)

    def prepare(self, sample: Chat) -> Dialog:
        """Tokens, labels, positions and patches."""
        return self.encoder.encode(sample)

    def num_tokens(self, value: Dialog) -> int:
        """Tokens of the dialog, pads of pictures included."""
        return len(value.ids)

    def kind(self, value: Dialog) -> str:
        """Texts, pictures and clips apart."""
        return value.kind

    def collate(self, items: Sequence[Item]) -> ChatBatch:
        """One packed micro-batch."""
        return collate(items)

    def loss_denominator(self, batch: ChatBatch) -> float:
        """Learned tokens."""
        return float(len(batch.learned))

    def training_step(self, model: nn.Module, batch: ChatBatch, streams: Streams) -> StepOutput:
        """Cross-entropy summed over the learned tokens."""
        return StepOutput(loss=model(batch), tokens=len(batch.ids))

    def validation_step(self, model: nn.Module, batch: ChatBatch, streams: Streams) -> dict[str, torch.Tensor]:
        """The same, and how many tokens were learned."""
        return {"val_loss": model(batch), "weight": torch.tensor(float(len(batch.learned)), device=batch.ids.device)}

    def answers(self, model: nn.Module, batch: ChatBatch) -> list[Answer]:
        """What the model says, greedily, in the assistant's last turn of every dialog; [] when it is not to speak."""
        if not self.config.max_new_tokens:
            return []
        end = self.encoder.special["<|im_end|>"]
        spoken = speak(model, batch, self.config.max_new_tokens, self.encoder.opening, end)
        said = [self.encoder.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in spoken]
        return [Answer(*one) for one in zip(batch.keys, said, batch.wanted, strict=True)]
