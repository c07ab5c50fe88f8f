"""Compiles the video codec's encoder once training has warmed up."""

from __future__ import annotations

from cosmos_core.train import Callback, Trainer
from cosmos_vfm.config import CompileTokenizer
from cosmos_vfm.family import VfmFamily

__all__ = ["CompileTokenizerCallback"]


class CompileTokenizerCallback(Callback):
    """torch.compile of the codec's encoder after `compile_after_iterations` micro-batches; every size compiles when it
    is first met."""

    config: CompileTokenizer
    seen = 0

    def train_start(self, trainer: Trainer) -> None:
        """Compile at once when no micro-batch is to be waited for."""
        self._compile_if_due(trainer)

    def after_backward(self, trainer: Trainer) -> None:
        """Count, and compile when it is time."""
        self.seen += 1
        self._compile_if_due(trainer)

    def _compile_if_due(self, trainer: Trainer) -> None:
        if self.config.enabled and self.seen == self.config.compile_after_iterations:
            assert isinstance(trainer.family, VfmFamily)
            trainer.family.compile_codec()
