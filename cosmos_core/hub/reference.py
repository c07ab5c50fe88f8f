"""Resolves what a person calls a checkpoint; downloads resume and are pinned."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.plugin.descriptors import CheckpointSpec
from cosmos_core.plugin.registry import Registry

__all__ = ["Located", "fetch", "locate_checkpoint"]

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@frozen
class Located:
    """A checkpoint on this machine. origin: the path, or repository and commit it came from."""

    path: Path
    origin: str


def locate_checkpoint(name: str, registry: Registry) -> Located:
    """A local folder, a registered name, or ``owner/repository[@revision]``, fetched when it is not here yet.

    Raises UserError when it is none of them, or cannot be fetched.
    """
    path = Path(name)
    if path.is_dir():
        return Located(path, str(path.resolve()))
    known = {spec.name for spec in registry.all(CheckpointSpec)}
    if name not in known and _REPOSITORY.fullmatch(name) and not name.startswith(("/", ".")):
        repository, _, revision = name.partition("@")
        return fetch(CheckpointSpec(name=name, summary="", repo=repository, revision=revision or "main"))
    if name not in known and ("/" in name or name.startswith(".")):
        raise UserError(f"no such folder: {name}")
    return fetch(registry.get(CheckpointSpec, name))


def fetch(spec: CheckpointSpec, folder: Path | None = None, *, repo_type: str = "model") -> Located:
    """Download a published checkpoint, or find it in the Hub cache; an interrupted download continues."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging as client_logging

    client_logging.disable_propagation()  # It prints by itself.
    try:
        path = snapshot_download(
            spec.repo,
            repo_type=repo_type,
            revision=spec.revision,
            local_dir=folder,
            allow_patterns=list(spec.files) or None,
        )
    except HFValidationError as error:
        problem = Problem(message=str(error).splitlines()[0], hint="give a folder, or owner/repository[@revision]")
        raise UserError(f"'{spec.name}' is no name on the Hub", [problem]) from None
    except (HfHubHTTPError.__bases__[0], LocalEntryNotFoundError, OSError) as error:
        # The client has changed its HTTP library twice, and lets that library's errors pass when a download breaks off.
        reason = first_line(error)
        hint = "check the network and HF_TOKEN, or give a local folder"
        problem = Problem(message=f"{spec.repo}@{spec.revision}: {reason}", hint=hint)
        raise UserError(f"'{spec.name}' cannot be fetched", [problem]) from None
    return Located(Path(path), f"{spec.repo}@{Path(path).name if folder is None else spec.revision}")
