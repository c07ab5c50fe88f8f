"""Weights of a reasoner: fresh, or straight from Hugging Face files, tensor by tensor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cosmos_core.checkpoint import opened_safetensors, read_weight_map
from cosmos_core.distributed import Streams, assign_full
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import by_layer
from cosmos_vlm.catalog import is_local, pinned
from cosmos_vlm.network import ReasonerNetwork

__all__ = [
    "CONFIGS",
    "INDEX",
    "fresh_weights",
    "is_fetched",
    "load_weights",
    "lost_files",
    "placed",
    "restore_buffers",
    "snapshot",
]

logger = logging.getLogger(__name__)

SHOWN = 6
CONFIGS = ["*.json", "*.txt", "*.jinja"]
"""Files of a backbone beside its weights."""
INDEX = "*.safetensors.index.json"
"""Which of several files holds a tensor."""
TINY = "tiny"
"""A Qwen3-VL of half a million parameters without weights, to train from scratch."""
POSITIONS = 0.5
"""Spread of fresh position embeddings of the tower; small ones are lost beside the patches and learn slowly."""


def snapshot(name: str, patterns: list[str]) -> Path:
    """A local folder, the tiny model that ships with this package, or the Hub's copy of these files of
    ``owner/repository[@revision]``, fetched when it is not here. Raises UserError."""
    if not is_fetched(name):
        return Path(__file__).parent / "backbones" / TINY if name == TINY else Path(name)
    if is_local(name):
        raise UserError(f"no such folder: {name}")
    from cosmos_core.hub import fetch
    from cosmos_core.plugin import CheckpointSpec

    repository, revision = pinned(name)
    spec = CheckpointSpec(name=name, summary="", repo=repository, revision=revision, files=tuple(patterns))
    return fetch(spec).path


def is_fetched(name: str) -> bool:
    """Whether `snapshot` asks the Hub."""
    return name != TINY and not Path(name).is_dir()


def restore_buffers(model: nn.Module) -> None:
    """Recompute what no checkpoint holds: the rotary frequencies, which building on the meta device leaves empty."""
    for module in model.modules():
        if hasattr(module, "inv_freq") and hasattr(module, "config"):
            kind: Any = type(module)
            new = kind(module.config)
            for name, value in new.named_buffers(recurse=False):
                getattr(module, name).copy_(value)


def fresh_weights(model: ReasonerNetwork, streams: Streams, names: Collection[str]) -> None:
    """Normal with the configuration's range for matrices, ones for norms, zeros for biases; the same on any ranks."""
    spread = getattr(model.config.text_config, "initializer_range", 0.02)
    for name, parameter in model.named_parameters():
        if name not in names:
            continue
        full = torch.zeros(parameter.shape)
        if parameter.ndim > 1:
            scale = POSITIONS if name.endswith("pos_embed.weight") else spread
            full = torch.randn(parameter.shape, generator=streams.generator(f"init.{name}")) * scale
        elif name.endswith("weight"):
            full = torch.ones(parameter.shape)
        assign_full(parameter, full)


def load_weights(model: ReasonerNetwork, folder: Path, names: Collection[str]) -> None:
    """Fill these parameters from a folder's safetensors; tensors that the model lacks are named in the log.

    Raises UserError naming what is missing or of another shape.
    """
    places: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with opened_safetensors(file) as opened:
            places.update(dict.fromkeys(opened.keys(), file))
    wanted = {name: value for name, value in model.named_parameters() if name in names}
    missing = [name for name in wanted if name not in places]
    if missing or not places:
        shown = ", ".join(missing[:SHOWN])
        problem = Problem(message=f"{len(missing)} tensors are missing: {shown}", file=str(folder))
        lost = lost_files(folder, set(missing).__contains__)
        raise UserError("the backbone's weights do not fit the model; nothing was started", [*lost, problem])
    known = {*dict(model.named_parameters()), *(("lm_head.weight",) if model.tied else ())}
    if unused := [name for name in places if name not in known]:
        logger.warning("left unused in %s: %s", folder, by_layer(unused))
    for file in dict.fromkeys(places[name] for name in wanted):
        with opened_safetensors(file) as opened:
            for name in [name for name in wanted if places[name] == file]:
                value = opened.get_tensor(name)
                if value.shape != wanted[name].shape:
                    message = f"{name} is {tuple(value.shape)}, the model needs {tuple(wanted[name].shape)}"
                    problem = Problem(message=message, file=str(file))
                    raise UserError("the backbone's weights do not fit the model; nothing was started", [problem])
                assign_full(wanted[name], value.to(wanted[name].dtype))


def placed(folder: Path) -> dict[str, str]:
    """The file of every tensor, as the folder's index says; {} without one. Raises UserError for a damaged index."""
    places: dict[str, str] = {}
    for index in sorted(folder.glob(INDEX)):
        places.update(read_weight_map(index))
    return places


def lost_files(folder: Path, wanted: Callable[[str], bool]) -> list[Problem]:
    """Files that are not there, but hold a wanted tensor as the folder's index says."""
    places = {file for name, file in placed(folder).items() if wanted(name)}
    index = next(folder.glob(INDEX), folder)
    return [
        Problem(message=f"names {file}, which is missing", file=str(index), hint="fetch it again")
        for file in sorted(places)
        if not (folder / file).is_file()
    ]
