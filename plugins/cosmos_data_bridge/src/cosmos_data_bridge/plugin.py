"""What this distribution offers to cosmos: the `bridge` dataset and its recipes."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from os.path import isdir, isfile
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

from cosmos_core.plugin import DataPath, DatasetSpec, Problem, hookimpl

if TYPE_CHECKING:
    from cosmos_core.plan import RunPlan
    from cosmos_data_bridge.config import BridgeConfig

__all__ = ["COSMOS_API"]

COSMOS_API = 1

_EVALUATED = {"cfg_dropout_rate": 0.0, "conditioning_config": {"0": 1.0}}
_CARRIED = ("resolution", "num_video_frames", "temporal_interval_mode", "frame_selection_mode", "caption_suffix")


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
        evaluated=_EVALUATED,
        carried=_CARRIED,
    )
    yield DatasetSpec(
        name="folder",
        summary="Your own clips and pictures, with captions beside them or in a table",
        config="cosmos_data_bridge.folder.config:FolderConfig",
        source="cosmos_data_bridge.folder.dataset:FolderSource",
        yields="video_text",
        prepare="cosmos_data_bridge.folder.command:folder",
        evaluated=_EVALUATED,
        carried=_CARRIED,
    )


@hookimpl
def cosmos_identify_data(path: Path) -> DataPath | None:
    """A manifest or its folder, a table of clips, or a folder with clips and captions."""
    from cosmos_data_bridge.identify import dataset_of, validation_of

    dataset = dataset_of(path)
    if dataset is None:
        return None
    return DataPath(
        dataset={"split": None, "jsonl": None, **dataset},
        recipe="vision_sft_nano",
        validation=validation_of(path),
        stand_ins={"model.text_tokenizer.type": "words"},
        note="captions have more tokens here than with the model's tokenizer, since this package's knows few words",
    )


@hookimpl
def cosmos_check_run(plan: RunPlan) -> Iterable[Problem]:
    """A dataset that is not where the recipe says."""
    from cosmos_data_bridge.config import BridgeConfig

    for key, dataset in plan.config.datasets.items():
        if isinstance(dataset, BridgeConfig):
            yield from _problems(dataset, f"{key}.path")


def _problems(dataset: BridgeConfig, key: str) -> Iterable[Problem]:
    from cosmos_core.errors import UserError, as_problems
    from cosmos_data_bridge.folder.config import FolderConfig
    from cosmos_data_bridge.index import index_file, read_index

    if isinstance(dataset, FolderConfig):
        from cosmos_data_bridge.folder.listing import list_entries

        try:
            list_entries(dataset.source)
        except UserError as error:
            yield from as_problems(error, key)
        return
    index = index_file(dataset)
    if not dataset.path.strip():
        hint = "give the folder that holds train/ and val/; if it comes from DATASET_PATH, unset or fill that"
        yield Problem(message="is empty", key=key, hint=hint)
    elif not isdir(dataset.path):
        message = f"{dataset.path} is a file" if isfile(dataset.path) else f"no such folder: {dataset.path}"
        yield Problem(message=message, key=key, hint=_commands(dataset))
    elif not isfile(index):
        hint = "the dataset root is the folder that holds train/ and val/"
        yield Problem(message=f"no such file: {index}", key=key, hint=hint)
    else:
        try:
            read_index(dataset)
        except UserError as error:
            yield from as_problems(error, key)


def _commands(dataset: BridgeConfig) -> str:
    """What makes the dataset at this path."""
    from cosmos_data_bridge.published import INSIDE

    root = Path(dataset.path)
    # Shorter windows than the recipe takes would be left out; a clip has 4 k + 1 frames, by default 17.
    frames = 4 * ceil((dataset.min_window_frames - 1) / 4) + 1
    length = ("--frames", str(frames)) if frames > 17 else ()
    drawn = join(("cosmos", "data", "prepare", "bridge", "--synthetic", "768", *length, "-o", str(root)))
    if root.name != INSIDE:
        return f"`{drawn}` draws one; or set DATASET_PATH"
    fetched = join(("cosmos", "data", "prepare", "bridge", "-o", str(root.parent)))
    return f"`{fetched}` fetches it, `{drawn}` draws a small one; or set DATASET_PATH"
