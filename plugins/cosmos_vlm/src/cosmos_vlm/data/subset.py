"""The files of a subset in a dataset repository, as `datasets` reads them from the Hub."""

from __future__ import annotations

from difflib import get_close_matches

from cosmos_core.errors import Problem, UserError
from cosmos_vlm.config import LlavaConfig
from cosmos_vlm.data.retries import with_retries

__all__ = ["streamed_files"]

KEY = "dataloader_train.dataset"
MAX_NAMES = 8


def streamed_files(config: LlavaConfig) -> list[str]:
    """``hf://`` addresses, pinned to a commit. Raises UserError for unknown subsets and splits, and without network."""
    from datasets import get_dataset_config_names, load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.utils import logging as client_logging

    client_logging.disable_propagation()  # It also prints by itself.
    name = f"{config.repo}@{config.revision}"

    def files_by_split() -> dict[str, list[str]]:
        try:
            known = get_dataset_config_names(config.repo, revision=config.revision)
            if config.subset not in known:
                near = get_close_matches(config.subset, known, MAX_NAMES) or sorted(known)[:MAX_NAMES]
                hint = f"there are {len(known)}, among them {', '.join(near)}"
                raise _subset_error(f"{name} has no subset '{config.subset}'", f"{KEY}.subset", hint)
            builder = load_dataset_builder(config.repo, name=config.subset, revision=config.revision)
        except DatasetNotFoundError as error:
            raise _subset_error(str(error).splitlines()[0], f"{KEY}.repo", "check the name and HF_TOKEN") from None
        return {split: list(files) for split, files in (builder.config.data_files or {}).items()}

    hint = f"check the network and HF_TOKEN, or give a local copy as {KEY}.path"
    splits = with_retries(files_by_split, name, waits=(), hint=hint)
    if config.split not in splits:
        raise _subset_error(
            f"'{config.subset}' has no split '{config.split}'", f"{KEY}.split", f"one of {', '.join(splits)}"
        )
    return splits[config.split]


def _subset_error(message: str, key: str, hint: str) -> UserError:
    return UserError(
        "the dataset cannot be streamed; nothing was started", [Problem(message=message, key=key, hint=hint)]
    )
