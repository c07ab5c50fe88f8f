"""What this distribution offers to cosmos. Names classes as text, so that listing imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cosmos_core.plugin import DatasetSpec, Problem, hookimpl

if TYPE_CHECKING:
    from cosmos_core.plan import RunPlan

COSMOS_API = 1


@hookimpl
def cosmos_datasets() -> Iterator[DatasetSpec]:
    """The dataset `lerobot`."""
    yield DatasetSpec(
        name="lerobot",
        summary="Episodes of a LeRobot dataset",
        config="lerobot_cosmos.config:LeRobot",
        source="lerobot_cosmos.dataset:EpisodeSource",
        yields="video_text",
    )


@hookimpl
def cosmos_check_run(plan: RunPlan) -> Iterator[Problem]:
    """Tell of a dataset that cannot be read before anything starts, and in a dry run."""
    from cosmos_core.errors import UserError, as_problems
    from lerobot_cosmos.config import LeRobot
    from lerobot_cosmos.episodes import read_episodes

    for key, dataset in plan.config.datasets.items():
        if isinstance(dataset, LeRobot):
            try:
                read_episodes(dataset)
            except UserError as error:
                yield from as_problems(error, key)
