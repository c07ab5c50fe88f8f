"""Recognizes a published generator by file names and safetensors headers; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from cosmos_core.strict_json import loads

__all__ = ["ADAPTERS", "FORMAT", "SEARCHED", "looks_published"]

FORMAT = "cosmos3"
ADAPTERS = "adapters"
MARKS = ("add_q_proj", "moe_gen")
MAX_HEADER = 100 * 2**20
SEARCHED = (
    "a generation tower (tensors with moe_gen or add_q_proj) in transformer/diffusion_pytorch_model.safetensors, "
    "transformer/model.safetensors, diffusion_pytorch_model.safetensors, model.safetensors, or in the shards of an "
    "index (.safetensors.index.json) of one of these"
)


def looks_published(path: Path) -> bool:
    """Whether a folder, or its ``transformer/``, holds tensors of a generation tower."""
    return any(_has_marks(folder) for folder in (path / "transformer", path) if folder.is_dir())


def _has_marks(folder: Path) -> bool:
    try:
        for index in folder.glob("*.safetensors.index.json"):
            if any(mark in index.read_text(encoding="utf-8", errors="replace") for mark in MARKS):
                return True
        return any(any(mark in _header(file) for mark in MARKS) for file in sorted(folder.glob("*.safetensors"))[:1])
    except OSError:
        return False


def _header(file: Path) -> str:
    """Tensor names in the header of a safetensors file, as one text."""
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > MAX_HEADER:
            return ""
        text = handle.read(length).decode("utf-8", errors="replace")
    try:
        return " ".join(loads(text))
    except (ValueError, TypeError):
        return ""
