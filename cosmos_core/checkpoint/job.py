"""One save from beginning to end: a second try, and the removal of checkpoints that need not be kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.checkpoint.retention import remove_old
from cosmos_core.checkpoint.save import SaveFailed, save_checkpoint
from cosmos_core.config.run import CheckpointConfig
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.plan.frozen_base import FrozenBase
from cosmos_core.plan.paths import RunPaths

__all__ = ["SaveJob"]

logger = logging.getLogger(__name__)


@frozen(kw_only=True)
class SaveJob:
    """What a checkpoint needs besides the components. loader: this rank's state of the data.

    base: of the frozen weights, which may be left to it. launch: number of the launch that trained the weights.
    """

    paths: RunPaths
    config: CheckpointConfig
    step: int
    loader: dict[str, Any]
    base: FrozenBase | None
    launch: int | None

    def carry_out(self, components: Mapping[str, dict[str, Any]], mesh: Mesh, *, shown: bool = True) -> Path:
        """Write ``iter_<step>``, at the second try if need be; returns the complete folder. Raises SaveFailed.

        Collective. shown: whether people see the progress. To be followed by `remove_old`.
        """
        try:
            return self._write(components, mesh, shown=shown)
        except SaveFailed as error:
            if mesh.rank == 0:
                logger.warning("%s; trying once more", error)
            return self._write(components, mesh, shown=shown)

    def remove_old(self, mesh: Mesh) -> None:
        """Remove what need not be kept beside the new checkpoint. Rank 0 does."""
        if mesh.rank:
            return
        try:
            removed = remove_old(self.paths, self.config, self.step)
        except OSError as error:
            logger.warning("an old checkpoint could not be removed: %s", error)
        else:
            if removed:
                logger.info("removed %s", ", ".join(path.name for path in removed))

    def _write(self, components: Mapping[str, dict[str, Any]], mesh: Mesh, *, shown: bool) -> Path:
        checkpoints = self.paths.checkpoints
        return save_checkpoint(
            checkpoints, self.step, components, self.loader, mesh, base=self.base, launch=self.launch, shown=shown
        )
