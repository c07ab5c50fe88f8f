"""One clip of a latent cache, as the bytes of its file."""

from __future__ import annotations

import json
import zlib
from hashlib import sha256
from pathlib import Path

import torch
from attrs import frozen
from safetensors import SafetensorError
from safetensors.torch import load, save

from cosmos_core.formats import check_format
from cosmos_vfm.tokenizer.video import CHANNELS

__all__ = ["FORMAT", "PACKAGE", "Cached", "from_bytes", "to_bytes"]

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


def to_bytes(value: Cached) -> bytes:
    """Latents are stored as bfloat16 when that is exact."""
    rounded = value.latents.to(torch.bfloat16)
    exact = torch.equal(rounded.float(), value.latents)
    latents = (rounded if exact else value.latents).cpu().contiguous()
    # Format and checksum are not in the metadata: that holds strings only, in no fixed order.
    tensors = {
        "latents": latents,
        "format": torch.tensor(FORMAT, dtype=torch.int32),
        "checksum": torch.tensor(_checksum(latents)),
    }
    if value.ids is not None:
        tensors["ids"] = torch.tensor(value.ids, dtype=torch.int32)
        tensors["ids_checksum"] = torch.tensor(_checksum(tensors["ids"]))
    return save(tensors, metadata={"caption": _digest(value.caption)})


def from_bytes(content: bytes, path: Path, caption: str, *, with_ids: bool) -> Cached | None:
    """The clip of a file, with its token ids if they belong to this caption; None when it is damaged.

    Raises UserError when a newer version wrote it.
    """
    try:
        tensors = load(content)
        if "format" in tensors:
            check_format({"format": int(tensors["format"])}, path, FORMAT, package=PACKAGE)
        latents, ids = tensors["latents"], None
        for name, checksum in (("latents", "checksum"), ("ids", "ids_checksum")):
            if checksum in tensors and int(tensors[checksum]) != _checksum(tensors[name]):
                return None
        # Those of an older version have no checksum; a caption is soon tokenised again.
        if with_ids and "ids_checksum" in tensors and _metadata(content).get("caption") == _digest(caption):
            ids = tuple(tensors["ids"].flatten().tolist())
        latents = latents.float()
    except (SafetensorError, KeyError, ValueError, RuntimeError):  # The last two for tensors of other kinds.
        return None
    return Cached(latents, caption, ids) if latents.ndim == 4 and len(latents) == CHANNELS else None


def _checksum(values: torch.Tensor) -> int:
    about = f"{values.dtype} {tuple(values.shape)}".encode()
    return zlib.crc32(values.flatten().view(torch.uint8).numpy().data, zlib.crc32(about))


def _metadata(content: bytes) -> dict[str, str]:
    """Of a safetensors file, whose header begins with its length in eight bytes."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header.get("__metadata__", {}))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
