"""Weights of a reasoner: fresh, or from Hugging Face files, tensor by tensor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cosmos_core.checkpoint import open_safetensors, read_each, read_weight_map
from cosmos_core.console import Progress, progress
from cosmos_core.distributed import CounterRng, load_full_tensor
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import by_layer
from cosmos_vlm.catalog import CONFIGS, HUB, PINNED, TINY, is_hub_name, is_local, pinned
from cosmos_vlm.config import Backbone
from cosmos_vlm.network import ReasonerNetwork
from cosmos_vlm.tokenizer import lacking_configs

__all__ = [
    "INDEX",
    "config_folder",
    "fresh_weights",
    "load_weights",
    "missing_files",
    "read_index",
    "restore_buffers",
    "snapshot",
]

logger = logging.getLogger(__name__)

MAX_NAMES = 6
INDEX = "*.safetensors.index.json"
"""Says which file holds a tensor."""
POSITION_STD = 0.5
"""Of fresh position embeddings of the tower; small ones are lost beside the patches and learn slowly."""


def snapshot(name: str, patterns: list[str]) -> Path:
    """The folder of a backbone: a local one, the tiny model of this package, or a snapshot from the Hub.

    A snapshot of ``owner/repository[@revision]`` has the files that match `patterns`, fetched if necessary. Raises
    UserError.
    """
    if not is_hub_name(name):
        return Path(__file__).parent / "backbones" / TINY if name == TINY else Path(name)
    if is_local(name):
        raise UserError(f"no such folder: {name}")
    from cosmos_core.hub import fetch
    from cosmos_core.plugin import CheckpointSpec

    repository, revision = pinned(name)
    spec = CheckpointSpec(name=name, summary="", repo=repository, revision=revision, files=tuple(patterns))
    try:
        return fetch(spec).path
    except UserError as error:
        if repository in PINNED or name.startswith(HUB):
            raise
        raise UserError(f"no such folder: {Path(name).absolute()}; on the Hub {error.title}", error.problems) from None


def config_folder(backbone: Backbone) -> Path:
    """The folder of a backbone's configuration, tokenizer and processor.

    The weights' own folder if it has them and `model_name` is not on this machine, so that nothing is fetched. Raises
    UserError that names the files it lacks when these cannot be fetched either.
    """
    weights = Path(backbone.safetensors_path) if backbone.safetensors_path else None
    if weights is None or not weights.is_dir() or not is_hub_name(backbone.model_name):
        return snapshot(backbone.model_name, CONFIGS)
    lacking = lacking_configs(weights)
    if not lacking:
        return weights
    try:
        return snapshot(backbone.model_name, CONFIGS)
    except UserError as error:
        problems = [_lacks(weights, file, backbone) for file in lacking]
        raise UserError(error.title, [*problems, *error.problems]) from None


def _lacks(folder: Path, file: str, backbone: Backbone) -> Problem:
    repository, revision = pinned(backbone.model_name)
    hint = f"`hf download {repository} {file} --revision {revision} --local-dir {folder}` fetches it"
    return Problem(message=f"{folder} has no {file}", key="model.backbone.safetensors_path", hint=hint)


def restore_buffers(model: nn.Module) -> None:
    """Recompute the rotary frequencies: checkpoints do not hold them, and a meta device leaves them empty."""
    for module in model.modules():
        if hasattr(module, "inv_freq") and hasattr(module, "config"):
            kind: Any = type(module)
            new = kind(module.config)
            for name, value in new.named_buffers(recurse=False):
                getattr(module, name).copy_(value)


def fresh_weights(model: ReasonerNetwork, rng: CounterRng, names: Collection[str]) -> None:
    """Normal with the configuration's range for matrices, ones for norms, zeros for biases; the same for any ranks."""
    std = getattr(model.config.text_config, "initializer_range", 0.02)
    for name, parameter in model.named_parameters():
        if name not in names:
            continue
        full = torch.zeros(parameter.shape)
        if parameter.ndim > 1:
            scale = POSITION_STD if name.endswith("pos_embed.weight") else std
            full = torch.randn(parameter.shape, generator=rng.generator(f"init.{name}")) * scale
        elif name.endswith("weight"):
            full = torch.ones(parameter.shape)
        load_full_tensor(parameter, full)


def load_weights(model: ReasonerNetwork, folder: Path, names: Collection[str]) -> None:
    """Load these parameters from a folder's safetensors. Tensors that the model lacks are logged.

    Raises UserError that names tensors which are missing or of another shape.
    """
    places: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with open_safetensors(file) as opened:
            places.update(dict.fromkeys(opened.keys(), file))
    parameters = {name: value for name, value in model.named_parameters() if name in names}
    missing = [name for name in parameters if name not in places]
    if missing or not places:
        problem = Problem(
            message=f"{len(missing)} tensors are missing: {', '.join(missing[:MAX_NAMES])}", file=str(folder)
        )
        files = missing_files(folder, set(missing).__contains__)
        raise UserError("the backbone's weights do not fit the model; nothing was started", [*files, problem])
    known = {*dict(model.named_parameters()), *(("lm_head.weight",) if model.tied else ())}
    if unused := [name for name in places if name not in known]:
        logger.warning("unused tensors in %s: %s", folder, by_layer(unused))
    with progress("loading weights", sum(value.nbytes for value in parameters.values()), "bytes") as loading:
        for file in dict.fromkeys(places[name] for name in parameters):
            own = {name: value for name, value in parameters.items() if places[name] == file}
            _load_file(file, own, loading)


def _load_file(file: Path, parameters: dict[str, nn.Parameter], loading: Progress) -> None:
    with open_safetensors(file) as opened:

        def read(name: str) -> None:
            value, parameter = opened.get_tensor(name), parameters[name]
            if value.shape != parameter.shape:
                message = f"{name} is {tuple(value.shape)}, the model needs {tuple(parameter.shape)}"
                problem = Problem(message=message, file=str(file))
                raise UserError("the backbone's weights do not fit the model; nothing was started", [problem])
            load_full_tensor(parameter, value)
            loading.advance(parameter.nbytes)

        read_each(read, parameters)


def read_index(folder: Path) -> dict[str, str]:
    """File of every tensor from the folder's index; {} without an index. Raises UserError for a damaged one."""
    places: dict[str, str] = {}
    for index in sorted(folder.glob(INDEX)):
        places.update(read_weight_map(index))
    return places


def missing_files(folder: Path, needs: Callable[[str], bool]) -> list[Problem]:
    """Files that do not exist although the folder's index lists a needed tensor in them. needs: by tensor name."""
    places = {file for name, file in read_index(folder).items() if needs(name)}
    index = next(folder.glob(INDEX), folder)
    return [
        Problem(message=f"names {file}, which is missing", file=str(index), hint="fetch it again")
        for file in sorted(places)
        if not (folder / file).is_file()
    ]
