"""Which files of a dataset repository make up a subset: the Hub's own description of it, read by `datasets`."""

from __future__ import annotations

from difflib import get_close_matches

from cosmos_core.errors import Problem, UserError
from cosmos_vlm.config import LlavaConfig
from cosmos_vlm.data.retries import retried

__all__ = ["streamed_files"]

KEY = "dataloader_train.dataset"
SHOWN = 8


def streamed_files(config: LlavaConfig) -> list[str]:
    """``hf://`` addresses, pinned to a commit. Raises UserError for unknown subsets and splits, and without network."""
    from datasets import get_dataset_config_names, load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.utils import logging as client_logging

    client_logging.disable_propagation()  # It prints by itself.
    name = f"{config.repo}@{config.revision}"

    def described() -> dict[str, list[str]]:
        try:
            known = get_dataset_config_names(config.repo, revision=config.revision)
            if config.subset not in known:
                near = get_close_matches(config.subset, known, SHOWN) or sorted(known)[:SHOWN]
                hint = f"there are {len(known)}, among them {', '.join(near)}"
                raise _refused(f"{name} has no subset '{config.subset}'", f"{KEY}.subset", hint)
            builder = load_dataset_builder(config.repo, name=config.subset, revision=config.revision)
        except DatasetNotFoundError as error:
            raise _refused(str(error).splitlines()[0], f"{KEY}.repo", "check the name and HF_TOKEN") from None
        return {split: list(files) for split, files in (builder.config.data_files or {}).items()}

    hint = f"check the network and HF_TOKEN, or give a local copy as {KEY}.path"
    splits = retried(described, name, waits=(), hint=hint)
    if config.split not in splits:
        raise _refused(
            f"'{config.subset}' has no split '{config.split}'", f"{KEY}.split", f"one of {', '.join(splits)}"
        )
    return splits[config.split]


def _refused(message: str, key: str, hint: str) -> UserError:
    return UserError(
        "the dataset cannot be streamed; nothing was started", [Problem(message=message, key=key, hint=hint)]
    )
