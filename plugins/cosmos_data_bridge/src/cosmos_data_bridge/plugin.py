"""What this distribution offers to cosmos: the `bridge` dataset and its recipes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.plugin import DatasetSpec, Problem, hookimpl

if TYPE_CHECKING:
    from cosmos_core.plan import RunPlan
    from cosmos_data_bridge.config import BridgeConfig

__all__ = ["COSMOS_API"]

COSMOS_API = 1


@hookimpl
def cosmos_datasets() -> Iterable[DatasetSpec]:
    """Video clips with structured captions."""
    yield DatasetSpec(
        name="bridge",
        summary="Captioned video clips in the BridgeData2 layout",
        config="cosmos_data_bridge.config:BridgeConfig",
        source="cosmos_data_bridge.dataset:BridgeSource",
        yields="video_text",
        prepare="cosmos_data_bridge.prepare:bridge",
    )


@hookimpl
def cosmos_check_run(plan: RunPlan) -> Iterable[Problem]:
    """A dataset that is not where the recipe says."""
    from cosmos_data_bridge.config import BridgeConfig

    loaders = {"dataloader_train": plan.config.dataloader_train}
    if plan.config.trainer.run_validation and plan.config.dataloader_val is not None:
        loaders["dataloader_val"] = plan.config.dataloader_val
    for name, loader in loaders.items():
        if isinstance(loader.dataset, BridgeConfig):
            yield from _missing(loader.dataset, f"{name}.dataset.path")


def _missing(dataset: BridgeConfig, key: str) -> Iterable[Problem]:
    root = Path(dataset.path)
    if not root.is_dir():
        hint = (
            f"set DATASET_PATH; `cosmos data prepare bridge --synthetic 768 -o {root}` writes a small dataset, "
            "`cosmos data prepare bridge -o examples/data/BridgeData2-Subset-Synthetic-Captions` fetches the real one"
        )
        yield Problem(message=f"no such folder: {root}", key=key, hint=hint)
        return
    index = root / dataset.split / dataset.jsonl
    if not index.is_file():
        hint = "the dataset root is the folder that holds train/ and val/"
        yield Problem(message=f"no such file: {index}", key=key, hint=hint)
