"""A published generator: a diffusers folder, or one folder with the same tensors.

See docs/checkpoints.md, Published generators.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from cosmos_core.checkpoint import open_safetensors, read_weight_map
from cosmos_core.errors import Problem, UserError
from cosmos_core.hub import contained
from cosmos_core.strict_json import read_object
from cosmos_vfm.checkpoints.diffusers_config import Shapes, check_config
from cosmos_vfm.checkpoints.identify import SEARCHED
from cosmos_vfm.checkpoints.names import from_diffusers

__all__ = ["COMPONENTS", "Published", "open_published"]

COMPONENTS = ("scheduler", "vae", "text_tokenizer", "sound_tokenizer", "vision_encoder")
"""Folders beside the transformer that an export gets too."""

_WEIGHTS = ("diffusion_pytorch_model", "model")
_PREFIXES = ("model.net.", "net.")
DAMAGED = "the checkpoint is damaged; nothing was converted"


@frozen
class Published:
    """root: the repository. folder: the transformer. files: its shards, in order."""

    root: Path
    folder: Path
    files: tuple[Path, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The transformer's config.json, {} without one."""
        path = self.folder / "config.json"
        return read_object(path, DAMAGED, "fetch it again") if path.is_file() else {}

    @property
    def shapes(self) -> Shapes:
        """Of the generator's tensors, by the network's names. Raises UserError when config.json tells of others."""
        shapes = {}
        for file in self.files:
            with open_safetensors(file) as opened:
                for stored in opened.keys():  # noqa: SIM118
                    if (name := framework_name(stored)) is not None:
                        shapes[name.removeprefix("net.")] = opened.get_slice(stored).get_shape()
        check_config(self.config, shapes, self.folder / "config.json")
        return shapes

    @property
    def components(self) -> dict[str, str]:
        """Component folders, name -> path."""
        return {name: str(self.root / name) for name in COMPONENTS if (self.root / name).is_dir()}

    def tensors(self, file: Path) -> Iterator[tuple[str, torch.Tensor]]:
        """Framework names (with ``net.``) and tensors of one shard, one at a time."""
        with open_safetensors(file) as opened:
            names = list(opened.keys())
        for name in names:
            renamed = framework_name(name)
            if renamed is not None:
                # Opened for each tensor: pages of an open file count as memory of this process.
                with open_safetensors(file) as opened:
                    value = opened.get_tensor(name)
                yield renamed, value


def framework_name(name: str) -> str | None:
    """``net.<name>`` of a stored tensor; None for tensors outside the generator (a vision tower)."""
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            plain = name.removeprefix(prefix)
            return None if ".visual." in plain else f"net.{plain}"
    try:
        return f"net.{from_diffusers(name)}"
    except KeyError:
        return None


def _shards(folder: Path) -> tuple[Path, ...]:
    for stem in _WEIGHTS:
        index = folder / f"{stem}.safetensors.index.json"
        if index.is_file():
            files = tuple(_inside(folder, name) for name in dict.fromkeys(read_weight_map(index).values()))
            missing = [path.name for path in files if not path.is_file()]
            if missing:
                problem = Problem(message=f"names {', '.join(missing[:4])}, which are missing", file=str(index))
                raise UserError("the checkpoint is not complete; nothing was converted", [problem])
            return files
        if (folder / f"{stem}.safetensors").is_file():
            return (folder / f"{stem}.safetensors",)
    return ()


def _inside(folder: Path, name: str) -> Path:
    try:
        contained(folder / name, folder)
    except ValueError:
        message = f"the checkpoint's index names {name}, outside its folder; nothing was converted"
        raise UserError(message) from None
    return folder / name


def _find_published(root: Path) -> Published | None:
    for folder in (root / "transformer", root):
        files = _shards(folder) if folder.is_dir() else ()
        if files and any(_is_generator(file) for file in files):
            return Published(root, folder, files)
    return None


def _is_generator(file: Path) -> bool:
    with open_safetensors(file) as opened:
        return any("moe_gen" in name or "add_q_proj" in name for name in opened.keys())  # noqa: SIM118


def open_published(root: Path) -> Published:
    """The published checkpoint in a folder. Raises UserError that lists the searched files."""
    published = _find_published(root) if root.is_dir() else None
    if published is None:
        problem = Problem(message=f"looked for {SEARCHED}", file=str(root), hint="is it a Cosmos3 generator?")
        raise UserError(f"{root} holds no generator in a known layout; nothing was converted", [problem])
    return published
