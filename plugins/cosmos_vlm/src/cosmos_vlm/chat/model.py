"""The weights of a source in transformers' own model, with the tokenizer and the limits they were trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from transformers import GenerationConfig, Qwen3VLForConditionalGeneration
from transformers.utils.logging import disable_progress_bar

from cosmos_core.checkpoint import SafetensorsWeights, StoredWeights, trained_weights
from cosmos_core.console import progress
from cosmos_core.distributed import dtype
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import by_layer
from cosmos_core.plan import Source
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load_recorded
from cosmos_vlm.architecture import architecture_of, cut
from cosmos_vlm.chat.adapter import Adapter, with_adapters
from cosmos_vlm.chat_processor import ChatProcessor
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.processor_files import check_processor, pixel_limits
from cosmos_vlm.tokenizer import tokenizer_of
from cosmos_vlm.weights import config_folder

__all__ = ["ChatModel", "load_chat_model"]

FORMAT = "qwen3_vl"
AT_A_TIME = 64
"""Tensors that are read together."""


@frozen(eq=False)
class ChatModel:
    """label: what the user calls it. model: transformers' Qwen3-VL, on its device, in evaluation mode."""

    label: str
    model: Any
    processor: ChatProcessor

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device


@frozen
class _Parts:
    """folder: configuration, tokenizer, processor. precision: None for that in the configuration."""

    folder: Path
    config: VlmConfig
    weights: StoredWeights
    precision: torch.dtype | None


def load_chat_model(
    label: str, source: Source, adapters: list[Adapter], device: torch.device, *, plugins: PluginManager
) -> ChatModel:
    """A run, a checkpoint, an export or a published reasoner. The same weights that an export of a run would hold.

    Raises UserError when it is no reasoner, when files are missing, or when weights or adapters do not fit.
    """
    parts = _parts(source, plugins)
    check_processor(parts.folder)
    architecture = architecture_of(parts.folder)
    if parts.config.num_layers is not None:
        cut(architecture, parts.config.num_layers)
    processor = ChatProcessor(tokenizer_of(parts.folder, architecture), pixel_limits(parts.config, parts.folder))
    weights = with_adapters(parts.weights, adapters, source.weights)
    disable_progress_bar()  # `progress` shows what takes time, and transformers only assigns the tensors.
    precision = parts.precision or architecture.dtype or torch.bfloat16
    model, loading = Qwen3VLForConditionalGeneration.from_pretrained(
        None,
        config=architecture,
        state_dict=_read(weights, precision),
        dtype=precision,
        output_loading_info=True,
    )
    if missing := loading["missing_keys"]:
        problem = Problem(message=f"lacks {by_layer(sorted(missing))}", file=str(source.weights))
        raise UserError("the weights are not those of the whole model", [problem])
    # What a folder says about sampling would make a run and its export differ.
    model.generation_config = GenerationConfig()
    return ChatModel(label, model.to(device).eval(), processor)


def _parts(source: Source, plugins: PluginManager) -> _Parts:
    if source.weights is None:
        raise UserError(f"{source.folder} holds no complete checkpoint yet")
    if source.kind == "published":
        if source.format != FORMAT:
            raise _no_reasoner(source, f"is {source.label}")
        return _Parts(source.folder, VlmConfig(), SafetensorsWeights(source.weights), None)
    if source.record is None:
        raise _no_reasoner(source, f"is {source.label}, which does not record its backbone")
    config = load_recorded(source.record, plugins=plugins).model
    if not isinstance(config, VlmConfig):
        raise _no_reasoner(source, f"is {source.label} that did not train a reasoner")
    weights = trained_weights(source.weights, "", config.lora_scale)
    return _Parts(config_folder(config.backbone), config, weights, dtype(config.precision))


def _no_reasoner(source: Source, message: str) -> UserError:
    hint = (
        "give a run, an export or a published reasoner; `cosmos convert GENERATOR -o DIR --to vlm` makes one of a "
        "generator's language model"
    )
    return UserError("only a reasoner can chat", [Problem(message=f"it {message}", file=str(source.folder), hint=hint)])


def _read(weights: StoredWeights, precision: torch.dtype) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    with progress("loading weights", len(weights.infos), "tensors") as loading:
        stored = list(weights.infos)
        for start in range(0, len(stored), AT_A_TIME):
            names = stored[start : start + AT_A_TIME]
            tensors |= {name: value.to(precision) for name, value in weights.read(names).items()}
            loading.advance(len(names))
    return tensors
