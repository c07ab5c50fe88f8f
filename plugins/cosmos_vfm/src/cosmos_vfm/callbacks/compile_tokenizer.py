"""Compiles the video codec's encoder once training has warmed up."""

from __future__ import annotations

import torch

from cosmos_core.train import Callback, TrainState
from cosmos_vfm.config import CompileTokenizer
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.tokenizer.wan import WanVae

__all__ = ["CompileTokenizerCallback"]


class CompileTokenizerCallback(Callback):
    """torch.compile of the Wan encoder after `compile_after_iterations` micro-batches; the DCT codec needs none."""

    config: CompileTokenizer
    seen = 0

    def micro_end(self, state: TrainState) -> None:
        """Count, and compile when it is time."""
        self.seen += 1
        due = self.config.enabled and self.seen == self.config.compile_after_iterations
        if due and isinstance(state.family, VfmFamily) and isinstance(state.family.codec, WanVae):
            encoder = state.family.codec.vae.encoder
            encoder.forward = torch.compile(encoder.forward)
