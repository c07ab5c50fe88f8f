"""Texts that differ where a latent or a caption's tokens would differ."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from hashlib import file_digest, sha256
from os.path import isdir
from pathlib import Path
from uuid import uuid4

import torch

from cosmos_core.data import StoredClip
from cosmos_core.plan.record import replace_file
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.sizes import NetworkConfig
from cosmos_vfm.tokenizer.wan_files import find_vae

__all__ = ["clip_identity", "text_identity", "video_tokenizer_identity"]

DIGITS = 2 * sha256().digest_size
TOKENIZER_FILES = (".json", ".jinja", ".model", ".txt")
"""Endings of files of words, settings and templates."""


def clip_identity(video: torch.Tensor | StoredClip) -> str:
    """The same for the same pixels: of a clip that is not decoded from its file, else from the pixels themselves.

    Raises UnreadableSample.
    """
    if not isinstance(video, torch.Tensor):
        return video.identity()
    digest = sha256(repr(tuple(video.shape)).encode())
    digest.update(video.flatten().numpy().data)
    return digest.hexdigest()


def video_tokenizer_identity(config: VfmConfig, remembered: Path | None = None) -> str:
    """Text that changes with the video tokenizer, any byte of its weights, and its precision.

    remembered: folder that keeps digests of files until their size or time changes, so that they are read once.

    Raises UserError when the weights are missing.
    """
    tokenizer, weights = config.tokenizer, ""
    if tokenizer.type == "wan22":
        weights = _digest_of_files(find_vae(tokenizer.vae_path), remembered)
    return f"{tokenizer.type} {config.precision} {weights}".strip()


def text_identity(config: VfmConfig, network: NetworkConfig, limit: int) -> str:
    """Text that changes with the text tokenizer, any byte of its files in a folder, and the token limit."""
    name = config.text_tokenizer.path or network.text_model
    entries = sorted(Path(name).iterdir()) if isdir(name) else []
    files = [path for path in entries if path.suffix in TOKENIZER_FILES and path.is_file()]
    texts = (config.text_tokenizer.type, name, network.text_revision, str(limit), _digest(files) if files else "")
    return " ".join(texts).strip()


def _digest_of_files(path: Path, remembered: Path | None) -> str:
    """Digest of all bytes of a file, or of the weights and configuration in a folder."""
    files = [path] if path.is_file() else sorted((*path.glob("*.json"), *path.glob("*.safetensors")))
    if remembered is None:
        return _digest(files)
    states = [(str(file.resolve()), status.st_size, status.st_mtime_ns) for file in files for status in (file.stat(),)]
    place = remembered / f".digest_{sha256(repr(states).encode()).hexdigest()[:16]}"
    with suppress(OSError, ValueError):
        known = place.read_text(encoding="ascii")
        if len(known) == DIGITS:
            return known
    digest = _digest(files)
    with suppress(OSError):  # Then it is read again next time.
        remembered.mkdir(parents=True, exist_ok=True)
        replace_file(place, digest.encode(), writer=uuid4().hex)  # Ranks of several nodes may write at once.
    return digest


def _digest(files: Sequence[Path]) -> str:
    digest = sha256()
    for name in files:
        with name.open("rb") as file:
            digest.update(file_digest(file, "sha256").digest())
    return digest.hexdigest()
