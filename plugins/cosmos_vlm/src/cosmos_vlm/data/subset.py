"""The files of a subset in a dataset repository, as `datasets` reads them from the Hub."""

from __future__ import annotations

from difflib import get_close_matches

from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.hub import RepositoryFiles, unreachable, with_retries
from cosmos_vlm.config import RowsConfig

__all__ = ["repository_of", "streamed_files"]

KEY = "dataloader_train.dataset"
MAX_NAMES = 8
WAITS = (1.0, 2.0, 4.0)
"""Seconds before the Hub is asked again whether it answers."""


def streamed_files(config: RowsConfig) -> list[str]:
    """``hf://`` addresses, pinned to a commit. Raises UserError for unknown subsets and splits, and without network."""
    if config.repo is None:
        hint = "give a folder or file, or set repo to a dataset's name on the Hub"
        raise _subset_error("there is neither a path nor a repo", f"{KEY}.path", hint)
    from datasets import get_dataset_config_names, load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.utils import logging as client_logging

    client_logging.disable_propagation()  # It also prints by itself.
    repo, name = config.repo, f"{config.repo}@{config.revision}"

    def files_by_split() -> dict[str, list[str]]:
        try:
            subset = _subset(config.subset, get_dataset_config_names(repo, revision=config.revision), name)
            builder = load_dataset_builder(repo, name=subset, revision=config.revision)
        except DatasetNotFoundError as error:
            raise _subset_error(first_line(error), f"{KEY}.repo", "check the name and HF_TOKEN") from None
        return {split: list(files) for split, files in (builder.config.data_files or {}).items()}

    hint = f"check the network and HF_TOKEN, or give a local copy as {KEY}.path"
    if reason := unreachable(WAITS):  # The client would try for half a minute.
        raise UserError("the Hub cannot be read", [Problem(message=reason, file=name, hint=hint)])
    splits = with_retries(files_by_split, name, waits=(), hint=hint)
    if config.split not in splits:
        raise _subset_error(
            f"'{config.subset or repo}' has no split '{config.split}'", f"{KEY}.split", f"one of {', '.join(splits)}"
        )
    return splits[config.split]


def repository_of(repo: str, address: str) -> RepositoryFiles:
    """The repository at the commit that the address of one of its files names."""
    return RepositoryFiles(repo, address.removeprefix(f"hf://datasets/{repo}@").partition("/")[0])


def _subset(subset: str | None, known: list[str], name: str) -> str:
    """The configured subset, or the only one. Raises UserError."""
    if subset in known:
        return str(subset)
    if subset is None and len(known) == 1:
        return known[0]
    near = get_close_matches(subset or "", known, MAX_NAMES) or sorted(known)[:MAX_NAMES]
    message = f"{name} has no subset '{subset}'" if subset else f"{name} has several subsets"
    raise _subset_error(message, f"{KEY}.subset", f"there are {len(known)}, among them {', '.join(near)}")


def _subset_error(message: str, key: str, hint: str) -> UserError:
    return UserError(
        "the dataset cannot be streamed; nothing was started", [Problem(message=message, key=key, hint=hint)]
    )
