"""Fills a network from a checkpoint, from the base under it, and by its family for the rest."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from attrs import evolve
from torch import nn

from cosmos_core.checkpoint.load import Loaded, load_from_base, load_model
from cosmos_core.checkpoint.state import AVERAGED
from cosmos_core.checkpoint.weights import BaseWeights
from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import RunConfig
from cosmos_core.console import progress
from cosmos_core.distributed.fsdp import load_full_tensor
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import gather_objects
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import by_layer
from cosmos_core.optim.ema import Ema
from cosmos_core.optim.lora import is_lora, trains_only_lora
from cosmos_core.optim.norm import not_finite
from cosmos_core.plan.frozen_base import FrozenBase
from cosmos_core.train.family import ModelFamily

__all__ = [
    "check_finite",
    "initialise_rest",
    "left_to_base",
    "load_base",
    "load_checkpoint",
    "log_differences",
    "places_of_base",
]

logger = logging.getLogger(__name__)


def load_checkpoint(
    checkpoint: Path,
    model: nn.Module,
    ema: Ema | None,
    mesh: Mesh,
    *,
    seed: int,
    whole: bool,
    places: Iterable[Path] = (),
) -> tuple[FrozenBase | None, Loaded]:
    """Load an ``iter_<N>`` of a run into the network and its average, after what it left to its base.

    seed: of the run, from which fresh base weights are drawn. whole: as in `load_model`. places: where a base may lie
    that has moved. Returns the record of the base, None for a checkpoint without, and what was filled. Raises UserError
    when something does not fit, or when the base is missing or has changed.
    """
    base = FrozenBase.read(checkpoint)
    left_out = left_to_base(base, model)
    if base is not None and left_out:
        base = base.found(places)
        base.check(checkpoint, seed)
    own = load_model(checkpoint / "model", model, ema, mesh, whole=whole, left_out=left_out)
    return base, evolve(own, tensors=own.tensors | _load_below(base, model, left_out, mesh))


def places_of_base(config: RunConfig, family: ModelFamily) -> Iterator[Path]:
    """Where the configuration has the weights that a run starts from, for a base that has moved."""
    if config.checkpoint.load_path:
        yield Path(config.checkpoint.load_path)
    if (folder := family.weights_folder) is not None:
        yield folder


def left_to_base(base: FrozenBase | None, model: nn.Module) -> frozenset[str]:
    """Names of the network's tensors that a checkpoint left to its base."""
    if base is None or not base.left_out:
        return frozenset()
    if base.tensors is None:
        return frozenset(name for name, _ in model.named_parameters() if not is_lora(name))
    return frozenset(base.lacking)


def _load_below(base: FrozenBase | None, model: nn.Module, names: Collection[str], mesh: Mesh) -> frozenset[str]:
    """Load `names` from a checked base; returns those that were filled, none of a base of fresh weights."""
    if base is None or not base.folder or not names:
        return frozenset()
    if base.dcp:
        load_from_base(Path(base.folder), model, names, mesh)
        return frozenset(names)
    own, stored = model.state_dict(), BaseWeights(base)
    if reshaped := [name for name in names if stored.infos[name].shape != own[name].shape]:
        problem = Problem(message=f"holds tensors of another shape: {by_layer(reshaped)}", file=base.folder)
        raise UserError("the base does not fit the model; nothing was started", [problem])
    with torch.no_grad(), progress("loading the base", len(names), "tensors") as loading:
        for name in names:
            load_full_tensor(own[name], stored.read([name])[name])
            loading.advance(1)
    return frozenset(names)


def load_base(
    folder: Path,
    model: nn.Module,
    ema: Ema | None,
    mesh: Mesh,
    *,
    skip: Sequence[str],
    strict: bool,
    num_layers: int | None = None,
) -> Loaded:
    """Load weights alone, to start from: ``model/`` below `folder`, and what that left to its own base.

    A base has no adapters for a run that trains nothing else. num_layers: as in `load_model`. Raises UserError.
    """
    base = FrozenBase.read(folder)
    if base is not None and base.rank is not None:
        hint = "cosmos export folds adapters into their base; cosmos convert makes a base of what it wrote"
        problem = Problem(message="holds adapters that trained alone, beside their base", file=str(folder), hint=hint)
        raise UserError("a run cannot start from adapters alone; nothing was started", [problem])
    skipped = (*skip, "lora_") if trains_only_lora(model) else tuple(skip)
    left_out = left_to_base(base, model)
    if base is not None and left_out:
        base.check(folder)
    source = folder / "model"
    loaded = load_model(
        *(source, model, ema, mesh),
        skip=skipped,
        strict=strict,
        whole=False,
        left_out=left_out,
        num_layers=num_layers,
    )
    names = [name for name in model.state_dict() if name in left_out and not any(key in name for key in skipped)]
    loaded = evolve(loaded, tensors=loaded.tensors | _load_below(base, model, names, mesh))
    if not loaded.tensors:
        message, key = f"leaves out every tensor of {folder}", "checkpoint.keys_to_skip_loading"
        problem = Problem(message=message, key=key, hint="leave out less, or unset checkpoint.load_path")
        raise UserError("nothing of the checkpoint would be used; nothing was started", [problem])
    return loaded


def initialise_rest(model: nn.Module, family: ModelFamily, rng: CounterRng, loaded: Collection[str] = ()) -> list[str]:
    """Let the family fill every parameter and buffer that was not loaded.

    Returns those among them that a checkpoint could have held, in the model's order.
    """
    names = [*dict(model.named_parameters()), *dict(model.named_buffers())]
    rest = frozenset(name for name in names if name not in loaded)
    family.initialize(model, rng, rest)
    return [name for name in model.state_dict() if name in rest]


def check_finite(model: nn.Module, ema: Ema | None, mesh: Mesh, source: Path | None) -> None:
    """Refuse weights and averages to start from that hold NaN or infinities: some would train unseen, and be exported.

    source: folder above ``model/`` that they came from. Collective. Raises UserError on every rank.
    """
    values = dict(model.named_parameters())
    averages = {f"{AVERAGED}{name}": value for name, value in ema.shadows.items()} if ema is not None else {}
    by_rank = gather_objects(not_finite({**values, **averages}), mesh)
    names = list(dict.fromkeys(name for of_rank in by_rank for name in of_rank))
    if not names:
        return
    hint = "is the file whole? float16 holds no value above 65504"
    message = f"NaN or infinite values in {by_layer(names)}"
    problem = Problem(message=message, file=str(source / "model") if source is not None else "", hint=hint)
    raise UserError("the weights to start from are not finite; nothing was started", [problem])


def log_differences(config: ModelConfig, loaded: Loaded, fresh: Sequence[str], restarted: Sequence[str]) -> None:
    """Log the tensors that only the model or only the checkpoint has.

    fresh: tensors the family filled; restarted: averages set to the weights.
    """
    own_files = config.brings_weights and config.init == "pretrained"
    start = "the model's own pretrained files" if own_files else "fresh values, as model.init = 'random' gives them"
    weights = [name for name in fresh if not is_lora(name)]
    adapters = [name for name in fresh if is_lora(name)]
    if weights:
        logger.warning("not loaded from the checkpoint, filled with %s: %s", start, by_layer(weights))
    if adapters:
        logger.info("adapters that start fresh: %s", by_layer(adapters))
    if restarted and loaded.averages:
        logger.warning("averages that the checkpoint lacks start at the weights: %s", by_layer(restarted))
    if loaded.unused:
        logger.warning("left unused in the checkpoint: %s", by_layer(loaded.unused))
