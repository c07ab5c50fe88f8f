"""Latents and token ids of every clip, encoded once and kept on disk."""

from __future__ import annotations

import json
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from attrs import frozen
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cosmos_core.errors import Problem, UserError
from cosmos_core.formats import check_format
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.sizes import NetworkConfig
from cosmos_vfm.tokenizer.wan import codec_place

__all__ = ["Cached", "LatentCache", "codec_identity", "text_identity"]

INDEX = "cache.json"
FORMAT = 1
"""Of the index and of each clip's file."""
PACKAGE = "cosmos-vfm"


@frozen(eq=False)
class Cached:
    """latents: float32 [48, T, H, W], bit for bit what the codec gave. ids: tokens of `caption`; None: not kept."""

    latents: torch.Tensor
    caption: str
    ids: tuple[int, ...] | None


def codec_identity(config: VfmConfig) -> str:
    """Changes with the codec, any byte of its weights, and its arithmetic. Raises UserError when it is not there."""
    tokenizer, weights = config.tokenizer, ""
    if tokenizer.type == "wan22":
        weights = _contents(codec_place(tokenizer.vae_path))
    return f"{tokenizer.type} {config.precision} {weights}".strip()


def text_identity(config: VfmConfig, network: NetworkConfig, limit: int) -> str:
    """Changes with the tokenizer and the cut."""
    tokenizer = config.text_tokenizer
    return f"{tokenizer.type} {tokenizer.path or network.text_model} {network.text_revision} {limit}"


def _contents(place: Path) -> str:
    """Digest of a file, or of a folder's weights and configuration, to the last byte."""
    files = [place] if place.is_file() else sorted((*place.glob("*.json"), *place.glob("*.safetensors")))
    digest = sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(file_digest(file, "sha256").digest())
    return digest.hexdigest()


class LatentCache:
    """A folder of one file a clip, named by what the clip shows. Raises UserError for one of another codec, or of a
    newer version."""

    def __init__(self, folder: Path, codec: str, text: str, *, create: bool = False) -> None:
        self.folder = folder
        index = folder / INDEX
        if create and not index.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            written = folder / f".{INDEX}.{uuid4().hex}.partial"
            written.write_text(json.dumps({"format": FORMAT, "codec": codec, "text": text}) + "\n", encoding="utf-8")
            written.replace(index)
        found = _read(index)
        check_format(found, index, FORMAT, package=PACKAGE)
        if found.get("codec") != codec:
            problem = Problem(
                message=f"was made with the codec '{found.get('codec')}', this recipe has '{codec}'",
                file=str(index),
                hint="make it anew in another folder, or unset dataloader_train.cache",
            )
            raise UserError("the latent cache belongs to another video codec; nothing was started", [problem])
        self._same_text = found.get("text") == text

    def path(self, identity: str) -> Path:
        """Where a clip lies, or would lie."""
        return self.folder / identity[:2] / f"{identity}.safetensors"

    def write(self, identity: str, value: Cached) -> None:
        """Keep a clip; the file appears when it is whole. Bfloat16 where that loses nothing."""
        path = self.path(identity)
        path.parent.mkdir(exist_ok=True)
        small = value.latents.to(torch.bfloat16)
        exact = torch.equal(small.float(), value.latents)
        tensors = {"latents": (small if exact else value.latents).cpu().contiguous()}
        # Not among the metadata, which has room for texts alone, and no fixed order.
        tensors["format"] = torch.tensor(FORMAT, dtype=torch.int32)
        if value.ids is not None:
            tensors["ids"] = torch.tensor(value.ids, dtype=torch.int32)
        hidden = path.with_name(f".{path.name}.{uuid4().hex}.partial")
        save_file(tensors, hidden, metadata={"caption": _digest(value.caption)})
        hidden.replace(path)

    def read(self, identity: str, caption: str) -> Cached | None:
        """The clip, with token ids if those are of this caption; None when it is not here or damaged.

        Raises UserError when a newer version wrote it.
        """
        try:
            with safe_open(self.path(identity), framework="pt") as file:
                ids, names = None, set(file.keys())
                if "format" in names:
                    number = int(file.get_tensor("format"))
                    check_format({"format": number}, self.path(identity), FORMAT, package=PACKAGE)
                if self._same_text and "ids" in names and file.metadata()["caption"] == _digest(caption):
                    ids = tuple(file.get_tensor("ids").tolist())
                return Cached(file.get_tensor("latents").float(), caption, ids)
        except (OSError, SafetensorError):
            return None


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _read(index: Path) -> dict[str, Any]:
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        problem = Problem(message=f"no such file, or damaged: {index}", key="dataloader_train.cache")
        raise UserError("there is no latent cache; make one with `cosmos data cache`", [problem])
    return found
