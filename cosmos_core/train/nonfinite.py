"""Steps with a loss or gradient that is not finite: their updates are skipped; the run ends or goes back for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from attrs import define, frozen
from torch import nn

from cosmos_core.config.run import TrainerConfig
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import any_rank, gather_objects
from cosmos_core.errors import Problem, RunFailed
from cosmos_core.optim.norm import all_finite

__all__ = ["MicroBatchLoss", "NonFiniteGuard", "NotFinite"]

logger = logging.getLogger(__name__)

NUM_NAMED = 12
"""Sample keys shown of one micro-batch."""


class NotFinite(RunFailed):
    """Raised on all ranks when a loss, gradient or weight is not finite and training cannot simply go on.

    symptom: what is not finite, in words. blamed: micro-batches of all ranks that may be the cause.
    """

    def __init__(self, title: str, symptom: str, reason: Problem, blamed: Sequence[str] = ()) -> None:
        super().__init__(title, [*(Problem(message=text) for text in blamed), reason])
        self.symptom, self.blamed = symptom, list(blamed)

    def because(self, reason: Problem) -> NotFinite:
        """The same, with another reason why the run ends."""
        return NotFinite(self.title, self.symptom, reason, self.blamed)


@frozen
class MicroBatchLoss:
    """What one rank computed in one micro-batch, or in a part of it.

    loss: of this rank alone, before any averaging. keys: of its samples. name: for messages.
    """

    loss: float
    keys: tuple[str, ...]
    name: str

    @property
    def described(self) -> str:
        """The micro-batch or part, for messages."""
        more = f" and {len(self.keys) - NUM_NAMED} more" if len(self.keys) > NUM_NAMED else ""
        return f"{self.name}, loss {self.loss:g}, samples {', '.join(self.keys[:NUM_NAMED])}{more}"


@define
class NonFiniteGuard:
    """Counts skipped steps. All methods are collective: every rank calls them with the same record.

    in_a_row: steps skipped in a row up to now. judged: steps checked in this process.
    """

    config: TrainerConfig
    model: nn.Module
    mesh: Mesh
    in_a_row: int = 0
    judged: int = 0

    def judge(self, record: dict[str, Any], micro_batches: Sequence[MicroBatchLoss]) -> None:
        """Count the step if it was skipped.

        record: with loss and gradient norm over all ranks, before any repair. Raises NotFinite when the run must end,
        or go back to a checkpoint.
        """
        self.judged += 1
        if math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"]):
            self.in_a_row = 0
            return
        self.in_a_row += 1
        if self.config.on_nonfinite != "rollback":
            self._log(record, micro_batches)
        if any_rank(not all_finite(self.model), self.mesh):
            raise self._failed(record, "the weights themselves are not finite, so no later step can be", micro_batches)
        if self.config.on_nonfinite != "skip":
            reason = f"trainer.on_nonfinite = '{self.config.on_nonfinite}' ends the run"
            raise self._failed(record, reason, micro_batches)
        limit = self.config.max_consecutive_nan
        if self.in_a_row >= limit:
            reason = f"{limit} such steps in a row end the run (trainer.max_consecutive_nan)"
            raise self._failed(record, reason, micro_batches)

    @property
    def in_doubt(self) -> bool:
        """Whether the newest step was skipped; the weights may be the cause."""
        return self.in_a_row > 0

    def check_before_saving(self, step: int) -> None:
        """Raises NotFinite when the last update made a weight infinite or NaN; earlier checkpoints stay."""
        if any_rank(not all_finite(self.model), self.mesh):
            symptom = "an update made weights infinite or NaN"
            hint = "lower optimizer.lr; the previous checkpoint stays the latest"
            title = f"the weights are not finite after step {step}; they were not saved"
            raise NotFinite(title, symptom, Problem(message=symptom, hint=hint))

    def check_at_end(self, step: int) -> None:
        """Raises RunFailed when all steps of this process were skipped; warns when the last ones were."""
        if self.judged and self.in_a_row == self.judged:
            raise RunFailed(
                f"none of the {self.judged} steps up to step {step} had a finite loss and gradient, so nothing was "
                "trained; the log names their samples"
            )
        if self.in_a_row and self.mesh.rank == 0:
            text = "the last steps were skipped, %d in a row: the weights are those of step %d, and may be the cause"
            logger.warning(text, self.in_a_row, step - self.in_a_row)

    def _log(self, record: dict[str, Any], micro_batches: Sequence[MicroBatchLoss]) -> None:
        blamed = _blamed(micro_batches)
        if blamed or self.mesh.rank == 0:
            logger.warning(
                "step %d is skipped (%d in a row): loss %g, gradient norm %g%s",
                record["step"],
                self.in_a_row,
                record["loss"],
                record["grad_norm"],
                "".join(f"; rank {self.mesh.rank}, {text}" for text in blamed),
            )

    def _failed(self, record: dict[str, Any], reason: str, micro_batches: Sequence[MicroBatchLoss]) -> NotFinite:
        """Names step, ranks and samples: those with a loss that is not finite, else all of the step."""
        ranks = gather_objects((_blamed(micro_batches), [batch.described for batch in micro_batches]), self.mesh)
        any_blamed = any(blamed for blamed, _ in ranks)
        texts = [
            f"rank {rank}, {text}"
            for rank, (blamed, everything) in enumerate(ranks)
            for text in (blamed if any_blamed else everything)
        ]
        hint = (
            "lower optimizer.lr, or look at these samples; if the same command fails again at once, start from an "
            "earlier checkpoint: checkpoint.load_path=.../iter_<N>"
        )
        symptom = f"loss {record['loss']:g}, gradient norm {record['grad_norm']:g}"
        title = f"step {record['step']}: {symptom}; the last good checkpoint stays the latest"
        return NotFinite(title, symptom, Problem(message=reason, hint=hint), texts)


def _blamed(micro_batches: Sequence[MicroBatchLoss]) -> list[str]:
    """This rank's micro-batches whose own loss is not finite."""
    return [batch.described for batch in micro_batches if not math.isfinite(batch.loss)]
