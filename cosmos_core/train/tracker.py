"""The interface of a metrics tracker, and all trackers as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.data.samples import Answer
from cosmos_core.errors import first_line
from cosmos_core.plan.plan import RunPlan

__all__ = ["Media", "Tracker", "TrackerGroup", "tracker_class"]

logger = logging.getLogger(__name__)


@frozen
class Media:
    """A picture (.png, .jpg) or clip (.mp4) that a run wrote.

    name: the same at every step, such as "samples/clip_00".
    """

    name: str
    path: Path
    caption: str = ""


class Tracker:
    """Base of all trackers, on rank 0 only; by default a method does nothing."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def start(self, plan: RunPlan, step: int) -> None:
        """The run begins, or resumes after `step` completed steps."""

    def log(self, record: dict[str, Any]) -> None:
        """One record: a finished step or a validation.

        A step has `step`, `loss`, `lr`, `grad_norm`, `tokens`, `seconds` and `data_wait`, a validation `step` and
        `val_loss`.
        """

    def log_answers(self, step: int, answers: Sequence[Answer]) -> None:
        """A few answers of the model to validation samples, after `step` steps."""

    def log_media(self, step: int, media: Sequence[Media]) -> None:
        """Files written after `step` steps; they stay where they are."""

    def rewind(self, step: int) -> None:
        """The run went back to `step` completed steps; later ones follow again."""

    def finish(self, outcome: str) -> None:
        """The run ended: 'done', 'stopped' or 'failed'."""


def tracker_class(loaded: type) -> type[Tracker]:
    """What a plugin names as a tracker; a class that does not derive from `Tracker` gets the methods that it lacks."""
    return loaded if issubclass(loaded, Tracker) else type(loaded.__name__, (loaded, Tracker), {})


class TrackerGroup:
    """All trackers as one; one that fails is switched off and never ends a run."""

    def __init__(self, trackers: dict[str, Tracker]) -> None:
        self._trackers = trackers

    def start(self, plan: RunPlan, step: int) -> None:
        """Call it on each."""
        self._each(lambda tracker: tracker.start(plan, step))

    def log(self, record: dict[str, Any]) -> None:
        """Call it on each."""
        self._each(lambda tracker: tracker.log(record))

    def log_answers(self, step: int, answers: Sequence[Answer]) -> None:
        """Call it on each, if there are answers."""
        if answers:
            self._each(lambda tracker: tracker.log_answers(step, answers))

    def log_media(self, step: int, media: Sequence[Media]) -> None:
        """Call it on each, if there are pictures or clips."""
        if media:
            self._each(lambda tracker: tracker.log_media(step, media))

    def rewind(self, step: int) -> None:
        """Call it on each."""
        self._each(lambda tracker: tracker.rewind(step))

    def finish(self, outcome: str) -> None:
        """Call it on each."""
        self._each(lambda tracker: tracker.finish(outcome))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:
                message = "tracker '%s' failed and is switched off; the run continues: %s"
                # Files that cannot be written are no bug, so no traceback helps.
                logger.error(message, name, first_line(error), exc_info=not isinstance(error, OSError))
                del self._trackers[name]
