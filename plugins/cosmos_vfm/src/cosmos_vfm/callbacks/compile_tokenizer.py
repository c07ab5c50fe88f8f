"""Compiles the encoder of the video tokenizer after a number of micro-batches."""

from __future__ import annotations

from cosmos_core.train import Callback, Trainer
from cosmos_vfm.config import CompileTokenizer
from cosmos_vfm.family import VfmFamily

__all__ = ["CompileTokenizerCallback"]


class CompileTokenizerCallback(Callback):
    """torch.compile of the encoder after `compile_after_iterations` micro-batches, once for all sizes.

    Only on CUDA: elsewhere compiling takes longer than it saves.
    """

    config: CompileTokenizer
    micro_batches = 0

    def train_start(self, trainer: Trainer) -> None:
        """Compile at once with `compile_after_iterations` = 0."""
        self._compile_if_due(trainer)

    def after_backward(self, trainer: Trainer) -> None:
        """Count micro-batches, and compile when the number is reached."""
        self.micro_batches += 1
        self._compile_if_due(trainer)

    def _compile_if_due(self, trainer: Trainer) -> None:
        is_due = self.config.enabled and self.micro_batches == self.config.compile_after_iterations
        if is_due and trainer.mesh.device.type == "cuda":
            assert isinstance(trainer.family, VfmFamily)
            trainer.family.compile_video_tokenizer()
