"""The published dataset: its repository, and its download."""

from __future__ import annotations

from pathlib import Path

from cosmos_core.errors import Problem, UserError
from cosmos_core.hub import fetch
from cosmos_core.plugin import CheckpointSpec

__all__ = ["REPOSITORY", "fetch_published"]

REPOSITORY = "nvidia/BridgeData2-Subset-Synthetic-Captions"
REVISION = "40d018ac1c1a2a4b9734f17fdb21f3d933c49a01"
INSIDE = "sft_dataset_bridge"
"""Folder of the repository that a recipe calls DATASET_PATH."""
INDEX = "train/video_dataset_file.jsonl"


def fetch_published(output: Path) -> Path:
    """Download the files that `output` lacks; returns the dataset's root.

    Raises UserError when they cannot be fetched, or have another layout.
    """
    spec = CheckpointSpec(name=REPOSITORY, summary="", repo=REPOSITORY, revision=REVISION)
    folder = fetch(spec, output, repo_type="dataset").path
    for root in (folder / INSIDE, folder):
        if (root / INDEX).is_file():
            return root
    raise UserError("the dataset has another layout than expected", [Problem(message=f"no {INDEX}", file=str(folder))])
