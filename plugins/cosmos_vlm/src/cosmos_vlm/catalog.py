"""Published models by name, pinned to the commits that were tested (docs/checkpoints.md, Published checkpoints)."""

from __future__ import annotations

from hashlib import sha256
from os.path import isdir
from pathlib import Path

__all__ = ["CONFIGS", "HUB", "PINNED", "REASONERS", "TINY", "configuration_digest", "is_hub_name", "is_local", "pinned"]

TINY = "tiny"
"""A Qwen3-VL of half a million parameters without weights, to train from scratch."""
CONFIGS = ["*.json", "*.txt", "*.jinja"]
"""Files of a backbone other than its weights."""
HUB = "hf://"
"""Optional prefix of a repository's name."""

PINNED = {
    "Qwen/Qwen3-VL-2B-Instruct": "89644892e4d85e24eaac8bacfd4f463576704203",
    "Qwen/Qwen3-VL-8B-Instruct": "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
    "Qwen/Qwen3-VL-32B-Instruct": "0cfaf48183f594c314753d30a4c4974bc75f3ccb",
    "nvidia/Cosmos3-Nano-Reasoner": "6406357cdc32fbf8db5f51ff7992343803b06961",
    "nvidia/Cosmos3-Super-Reasoner": "b9b716f3508dfa442e0c8ba32fb5d0c9adf2a32c",
}

REASONERS = {"Qwen/Qwen3-VL-8B-Instruct": "Cosmos3-Nano", "Qwen/Qwen3-VL-32B-Instruct": "Cosmos3-Super"}
"""Backbone -> the generator whose language model fits it."""


def pinned(name: str) -> tuple[str, str]:
    """Repository and revision of ``[hf://]owner/repository[@revision]``."""
    repository, _, revision = name.removeprefix(HUB).partition("@")
    return repository, revision or PINNED.get(repository, "main")


def is_hub_name(name: str) -> bool:
    """Whether a backbone's name is read from the Hub: it is no folder, and not the tiny model of this package."""
    return name != TINY and not isdir(name)


def is_local(name: str) -> bool:
    """Whether a name can only be a folder's, so that it is not looked up on the Hub."""
    return not name.startswith(HUB) and (name.startswith((".", "/", "~")) or name.count("/") > 1)


def configuration_digest(folder: Path) -> str:
    """Digest of a backbone's files other than its weights: its architecture, tokenizer and processor."""
    files = {path.name: path for pattern in CONFIGS for path in folder.glob(pattern) if path.is_file()}
    contents = (f"{name}:{sha256(path.read_bytes()).hexdigest()}\n" for name, path in sorted(files.items()))
    return sha256("".join(contents).encode()).hexdigest()
