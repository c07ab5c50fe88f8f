"""What this distribution offers to cosmos: the dataset `videophy2` and its recipes."""

from __future__ import annotations

from collections.abc import Iterable
from os.path import isdir, isfile
from shlex import join
from typing import TYPE_CHECKING

from cosmos_core.plugin import DataPath, DatasetSpec, MetricSpec, Problem, hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from cosmos_core.plan import RunPlan
    from cosmos_data_videophy.config import VideophyConfig

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
        # A part of a rating is no rating.
        overlong=("error", "skip", "resize"),
    )


@hookimpl
def cosmos_metrics() -> Iterable[MetricSpec]:
    """How well ratings agree with the data's."""
    yield MetricSpec(
        name="videophy2",
        summary="Accuracy, error and rank correlation of ratings from 1 to 5",
        metric="cosmos_data_videophy.scoring:ratings",
        errors=("mean_absolute_error", "unreadable"),
        datasets=("videophy2",),
        report="cosmos_data_videophy.scoring:draw_confusion",
    )


@hookimpl
def cosmos_identify_data(path: Path) -> DataPath | None:
    """What `cosmos data prepare videophy2` wrote, or one of its splits."""
    from cosmos_data_videophy.manifest import find_splits

    root, splits = find_splits(path)
    if not splits:
        return None
    return DataPath(
        dataset={"type": "videophy2", "path": str(root), "split": splits[0]},
        recipe="videophy2_sft_nano",
        validation={"split": splits[-1]},
        stand_ins={"model.backbone.model_name": "tiny"},
        note="texts have more tokens here than with a model's tokenizer, since the one in this package knows few words",
    )


@hookimpl
def cosmos_check_run(plan: RunPlan) -> Iterable[Problem]:
    """A dataset that is not where the recipe says."""
    from cosmos_data_videophy.config import VideophyConfig

    for key, dataset in plan.config.datasets.items():
        if isinstance(dataset, VideophyConfig):
            yield from _problems(dataset, f"{key}.path")


def _problems(dataset: VideophyConfig, key: str) -> Iterable[Problem]:
    from cosmos_core.errors import UserError, as_problems
    from cosmos_data_videophy.manifest import manifest_file, read_manifest

    manifest = manifest_file(dataset)
    if isfile(manifest):
        try:
            read_manifest(dataset)
        except UserError as error:
            yield from as_problems(error, key)
        return
    hint = "set VIDEOPHYSICS_ROOT to the folder that holds videophy2_train/ and videophy2_val/"
    if not isdir(dataset.path):
        prepare = ("cosmos", "data", "prepare", "videophy2")
        fetched = join((*prepare, "-o", dataset.path))
        drawn = join((*prepare, "--synthetic", "4000", "-o", dataset.path))
        hint = f"`{fetched}` fetches it, `{drawn}` draws one; or {hint}"
    yield Problem(message=f"no such file: {manifest}", key=key, hint=hint)
