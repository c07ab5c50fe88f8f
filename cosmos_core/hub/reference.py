"""Resolves a checkpoint's name, path or repository to files; downloads are pinned and can be resumed."""

from __future__ import annotations

import re
from os.path import isdir
from pathlib import Path

from attrs import frozen

from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.hub.retries import network_errors
from cosmos_core.plugin.descriptors import CheckpointSpec
from cosmos_core.plugin.registry import Registry

__all__ = ["Snapshot", "fetch", "locate_checkpoint"]

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@frozen
class Snapshot:
    """A checkpoint or dataset on this machine. source_revision: its path, or the repository and commit it came from."""

    path: Path
    source_revision: str


def locate_checkpoint(name: str, registry: Registry) -> Snapshot:
    """A local folder, a registered name, or ``owner/repository[@revision]``, downloaded if it is not here yet.

    Raises UserError when it is none of them or cannot be downloaded.
    """
    path = Path(name)
    if isdir(path):
        return Snapshot(path, str(path.resolve()))
    known = {spec.name for spec in registry.all(CheckpointSpec)}
    if name not in known and _REPOSITORY.fullmatch(name) and not name.startswith(("/", ".")):
        repository, _, revision = name.partition("@")
        return fetch(CheckpointSpec(name=name, summary="", repo=repository, revision=revision or "main"))
    if name not in known and ("/" in name or name.startswith(".")):
        raise UserError(f"no such folder: {name}")
    return fetch(registry.get(CheckpointSpec, name))


def fetch(spec: CheckpointSpec, folder: Path | None = None, *, repo_type: str = "model") -> Snapshot:
    """Download a published checkpoint or dataset, or find it in the Hub cache; interrupted downloads continue."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import logging as client_logging

    from cosmos_core.console import progress
    from cosmos_core.hub.download_progress import bars_of

    client_logging.disable_propagation()  # It has its own handler.
    try:
        with progress(f"fetching {spec.name}", unit="bytes") as fetching:
            path = snapshot_download(
                spec.repo,
                repo_type=repo_type,
                revision=spec.revision,
                local_dir=folder,
                allow_patterns=list(spec.files) or None,
                tqdm_class=bars_of(fetching),
            )
    except HFValidationError as error:
        problem = Problem(message=first_line(error), hint="give a folder, or owner/repository[@revision]")
        raise UserError(f"'{spec.name}' is not a valid name on the Hub", [problem]) from None
    except network_errors() as error:
        hint = "check the network and HF_TOKEN, or give a local folder"
        problem = Problem(message=f"{spec.repo}@{spec.revision}: {first_line(error)}", hint=hint)
        raise UserError(f"'{spec.name}' cannot be fetched", [problem]) from None
    return Snapshot(Path(path), f"{spec.repo}@{Path(path).name if folder is None else spec.revision}")
