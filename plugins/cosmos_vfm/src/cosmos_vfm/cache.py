"""A cache on disk: latents and token ids of every clip, encoded once."""

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
from cosmos_core.strict_json import read_object
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.sizes import NetworkConfig
from cosmos_vfm.tokenizer.video import CHANNELS
from cosmos_vfm.tokenizer.wan_files import find_vae

__all__ = ["Cached", "LatentCache", "text_identity", "video_tokenizer_identity"]

INDEX = "cache.json"
FORMAT = 1
"""Of the index and of each clip's file."""
PACKAGE = "cosmos-vfm"


@frozen(eq=False)
class Cached:
    """latents: float32 [48, T, H, W], bit for bit as the video tokenizer returned them.

    ids: tokens of `caption`; None when they are not stored.
    """

    latents: torch.Tensor
    caption: str
    ids: tuple[int, ...] | None


def video_tokenizer_identity(config: VfmConfig) -> str:
    """Text that changes with the video tokenizer, any byte of its weights, and its precision.

    Raises UserError when the weights are missing.
    """
    tokenizer, weights = config.tokenizer, ""
    if tokenizer.type == "wan22":
        weights = _digest_of_files(find_vae(tokenizer.vae_path))
    return f"{tokenizer.type} {config.precision} {weights}".strip()


def text_identity(config: VfmConfig, network: NetworkConfig, limit: int) -> str:
    """Text that changes with the text tokenizer and the token limit."""
    tokenizer = config.text_tokenizer
    return f"{tokenizer.type} {tokenizer.path or network.text_model} {network.text_revision} {limit}"


def _digest_of_files(path: Path) -> str:
    """Digest of all bytes of a file, or of the weights and configuration in a folder."""
    files = [path] if path.is_file() else sorted((*path.glob("*.json"), *path.glob("*.safetensors")))
    digest = sha256()
    for name in files:
        with name.open("rb") as file:
            digest.update(file_digest(file, "sha256").digest())
    return digest.hexdigest()


class LatentCache:
    """A folder with one file per clip, named by the clip's content.

    Raises UserError when another video tokenizer or a newer version made it.
    """

    def __init__(self, folder: Path, video_tokenizer: str, text: str, *, create: bool = False) -> None:
        self.folder = folder
        index = folder / INDEX
        if create and not index.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f".{INDEX}.{uuid4().hex}.partial"
            partial.write_text(
                json.dumps({"format": FORMAT, "codec": video_tokenizer, "text": text}) + "\n", encoding="utf-8"
            )
            partial.replace(index)
        record = _read(index)
        check_format(record, index, FORMAT, package=PACKAGE)
        made_with = record.get("codec")
        if made_with != video_tokenizer:
            problem = Problem(
                message=f"was made with the video tokenizer '{made_with}', this recipe has '{video_tokenizer}'",
                file=str(index),
                hint="make a new one in another folder, or unset dataloader_train.cache",
            )
            raise UserError("the latent cache belongs to another video tokenizer; nothing was started", [problem])
        self._same_text = record.get("text") == text

    def path(self, identity: str) -> Path:
        """File of a clip, whether it exists or not."""
        return self.folder / identity[:2] / f"{identity}.safetensors"

    def write(self, identity: str, value: Cached) -> None:
        """Store a clip. The file appears when it is complete. Latents are stored as bfloat16 when that is exact."""
        path = self.path(identity)
        path.parent.mkdir(exist_ok=True)
        rounded = value.latents.to(torch.bfloat16)
        exact = torch.equal(rounded.float(), value.latents)
        tensors = {"latents": (rounded if exact else value.latents).cpu().contiguous()}
        # Not in the metadata: that holds strings only, in no fixed order.
        tensors["format"] = torch.tensor(FORMAT, dtype=torch.int32)
        if value.ids is not None:
            tensors["ids"] = torch.tensor(value.ids, dtype=torch.int32)
        partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
        save_file(tensors, partial, metadata={"caption": _digest(value.caption)})
        partial.replace(path)

    def read(self, identity: str, caption: str) -> Cached | None:
        """The clip, with token ids if they belong to this caption. None when it is missing or damaged.

        Raises UserError when a newer version wrote it.
        """
        try:
            with safe_open(self.path(identity), framework="pt") as file:
                ids, names = None, set(file.keys())
                if "format" in names:
                    number = int(file.get_tensor("format"))
                    check_format({"format": number}, self.path(identity), FORMAT, package=PACKAGE)
                if self._same_text and "ids" in names and (file.metadata() or {}).get("caption") == _digest(caption):
                    ids = tuple(file.get_tensor("ids").flatten().tolist())
                latents = file.get_tensor("latents").float()
        except (OSError, SafetensorError, ValueError):  # The last for a format that is not one number.
            return None
        return Cached(latents, caption, ids) if latents.ndim == 4 and len(latents) == CHANNELS else None


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _read(index: Path) -> dict[str, Any]:
    try:
        return read_object(index)
    except UserError:
        problem = Problem(message=f"missing or damaged: {index}", key="dataloader_train.cache")
        raise UserError("there is no latent cache; make one with `cosmos data cache`", [problem]) from None
