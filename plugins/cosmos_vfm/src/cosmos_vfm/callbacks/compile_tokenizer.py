"""Compiles the encoder of the video tokenizer after a number of backward passes."""

from __future__ import annotations

from cosmos_core.train import Callback, Trainer
from cosmos_vfm.config import CompileTokenizer
from cosmos_vfm.family import VfmFamily

__all__ = ["CompileTokenizerCallback"]


class CompileTokenizerCallback(Callback):
    """torch.compile of the encoder, once for all sizes, after `compile_after_iterations` micro-batches or their parts.

    Only on CUDA: elsewhere compiling takes longer than it saves.
    """

    config: CompileTokenizer
    passes = 0

    def train_start(self, trainer: Trainer) -> None:
        """Compile at once with `compile_after_iterations` = 0."""
        self._compile_if_due(trainer)

    def after_backward(self, trainer: Trainer) -> None:
        """Count, and compile when the number is reached."""
        self.passes += 1
        self._compile_if_due(trainer)

    def _compile_if_due(self, trainer: Trainer) -> None:
        is_due = self.config.enabled and self.passes == self.config.compile_after_iterations
        if is_due and trainer.mesh.device.type == "cuda":
            assert isinstance(trainer.family, VfmFamily)
            trainer.family.compile_video_tokenizer()
