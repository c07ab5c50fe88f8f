"""Compiles the video codec's encoder once training has warmed up."""

from __future__ import annotations

from cosmos_core.train import Callback, TrainState
from cosmos_vfm.config import CompileTokenizer
from cosmos_vfm.family import VfmFamily

__all__ = ["CompileTokenizerCallback"]


class CompileTokenizerCallback(Callback):
    """torch.compile of the codec's encoder after `compile_after_iterations` micro-batches; every size compiles when it
    is first met."""

    config: CompileTokenizer
    seen = 0

    def train_start(self, state: TrainState) -> None:
        """Compile at once when no micro-batch is to be waited for."""
        self._compile_if_due(state)

    def micro_end(self, state: TrainState) -> None:
        """Count, and compile when it is time."""
        self.seen += 1
        self._compile_if_due(state)

    def _compile_if_due(self, state: TrainState) -> None:
        if self.config.enabled and self.seen == self.config.compile_after_iterations:
            assert isinstance(state.family, VfmFamily)
            state.family.compile_codec()
