"""Layers of a network that wait in host memory and visit the device one after the other."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.network.model import is_text_tower

__all__ = ["offload"]

LAYER = "language_model.model.layers.0."
"""A name as `is_text_tower` knows it."""


def offload(model: Cosmos3Network, device: torch.device) -> None:
    """Keep the layers on the host and everything else on the device; copies run ahead of the computation.

    At most two layers are on the device at a time. The text's part of a layer goes there only while the text is
    computed. `lm_head` stays on the host: generation never reads it.
    """
    language = model.language_model
    resident: list[nn.Module] = [language.model.embed_tokens, language.model.norm, language.model.norm_moe_gen]
    for module in (*resident, model.time_embedder, model.vae2llm, model.llm2vae):
        module.to(device)
    _Streamer(list(model.layers), device).install()


class _Streamer:
    """Moves parameters in before a layer runs, those of the next layer at the same time, and out afterwards."""

    def __init__(self, layers: list[nn.Module], device: torch.device) -> None:
        self.layers, self.device = layers, device
        self.on_cuda = device.type == "cuda"
        self.copies = torch.cuda.Stream(device) if self.on_cuda else None
        self.host = [{name: self._pinned(value) for name, value in layer.named_parameters()} for layer in layers]
        self.ahead: dict[int, dict[str, torch.Tensor]] = {}
        self.left: torch.cuda.Event | None = None

    def install(self) -> None:
        for index, layer in enumerate(self.layers):
            layer.register_forward_pre_hook(partial(self._enter, index))
            layer.register_forward_hook(partial(self._leave, index))

    def _pinned(self, value: nn.Parameter) -> torch.Tensor:
        """Its values, moved to pinned memory on CUDA; what held them before is freed at once."""
        if self.on_cuda:
            value.data = value.data.pin_memory()
        return value.data

    def _enter(self, index: int, layer: nn.Module, args: tuple[Any, ...]) -> None:
        needs_text = not args[-1]
        arrived = self.ahead.pop(index, None) or self._fetch(index, needs_text)
        if self.copies is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.copies)
        for name, value in layer.named_parameters():
            if name in arrived:
                value.data = arrived[name]
        if self.left is not None:
            # Without it the host would run far ahead, and ask for the memory of many layers.
            self.left.synchronize()
        if index + 1 < len(self.layers):
            self.ahead[index + 1] = self._fetch(index + 1, needs_text)

    def _leave(self, index: int, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        for name, value in layer.named_parameters():
            if self.on_cuda and value.device == self.device:
                value.data.record_stream(torch.cuda.current_stream(self.device))
            value.data = self.host[index][name]
        if self.on_cuda:
            self.left = torch.cuda.current_stream(self.device).record_event()

    def _fetch(self, index: int, needs_text: bool) -> dict[str, torch.Tensor]:
        values = {
            name: value for name, value in self.host[index].items() if needs_text or not is_text_tower(LAYER + name)
        }
        if self.copies is None:
            return {name: value.to(self.device, copy=True) for name, value in values.items()}
        with torch.cuda.stream(self.copies):
            return {name: value.to(self.device, non_blocking=True) for name, value in values.items()}
