"""What this distribution offers to cosmos: the dataset `videophy2` and its recipes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.plugin import DatasetSpec, Problem, hookimpl

if TYPE_CHECKING:
    from cosmos_core.plan import RunPlan

__all__ = ["COSMOS_API"]

COSMOS_API = 1


@hookimpl
def cosmos_datasets() -> Iterable[DatasetSpec]:
    """Ratings of how physical a video looks."""
    yield DatasetSpec(
        name="videophy2",
        summary="VideoPhy-2: videos rated for physical plausibility",
        config="cosmos_data_videophy.config:VideophyConfig",
        source="cosmos_data_videophy.dataset:VideophySource",
        yields="chat",
        prepare="cosmos_data_videophy.prepare:videophy2",
    )


@hookimpl
def cosmos_check_run(plan: RunPlan) -> Iterable[Problem]:
    """A dataset that is not where the recipe says."""
    from cosmos_data_videophy.config import VideophyConfig

    loaders = {"dataloader_train": plan.config.dataloader_train}
    if plan.config.trainer.run_validation and plan.config.dataloader_val is not None:
        loaders["dataloader_val"] = plan.config.dataloader_val
    for name, loader in loaders.items():
        dataset = loader.dataset
        if isinstance(dataset, VideophyConfig):
            manifest = Path(dataset.path) / f"videophy2_{dataset.split}" / "meta.json"
            if not manifest.is_file():
                hint = "set VIDEOPHYSICS_ROOT to the folder that holds videophy2_train/ and videophy2_val/"
                yield Problem(message=f"no such file: {manifest}", key=f"{name}.dataset.path", hint=hint)
