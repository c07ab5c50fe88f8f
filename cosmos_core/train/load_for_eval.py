"""Loads weights for evaluation, in one process: of a run, a checkpoint, a base, a published folder, or a recipe."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from attrs import evolve
from torch import nn

from cosmos_core.checkpoint.load import Loaded, averaged_names
from cosmos_core.config.document import read_document
from cosmos_core.config.reference import value_text
from cosmos_core.config.run import RunConfig
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.distributed.runtime import local_mesh
from cosmos_core.errors import Problem, UserError
from cosmos_core.optim.ema import Ema
from cosmos_core.plan.changes import changes
from cosmos_core.plan.checkpoint import starting_weights
from cosmos_core.plan.plan import WeightSource
from cosmos_core.plan.record import recorded_folders
from cosmos_core.plan.source import Source, check_reads, find_source
from cosmos_core.plugin.descriptors import ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.loading import load_recorded
from cosmos_core.train.build import build_family, materialise
from cosmos_core.train.family import ModelFamily
from cosmos_core.train.weights import initialise_rest, load_base, load_checkpoint, places_of_base

__all__ = ["adopted", "check_meaning", "load_for_eval", "load_source"]

logger = logging.getLogger(__name__)


def load_for_eval(
    run_dir: Path, *, plugins: PluginManager, step: int | None = None, weights: str = "ema"
) -> tuple[ModelFamily, nn.Module]:
    """The family and network of a run, in evaluation mode. step: which checkpoint, the latest when absent.

    weights: as in `load_source`. Raises UserError when there is no such checkpoint.
    """
    source = find_source(run_dir, plugins, step=step)
    if source.record is None:
        raise UserError(f"{run_dir} has no recorded configuration")
    return load_source(source, load_recorded(source.record, plugins=plugins), plugins=plugins, weights=weights)


def adopted(source: Source | None, config: RunConfig, *, plugins: PluginManager) -> RunConfig:
    """The configuration with what the source has of its own: sizes, tokenizers, processor.

    What would train may be of another network, such as adapters that an export has folded in; nothing does here.

    Raises UserError when the source is of another model family.
    """
    if source is None or source.kind not in ("base", "published"):
        return config
    check_reads(source, config.job.task, plugins)
    family = plugins.registry.get(ModelFamilySpec, config.job.task).family.load()
    model = family.settings_of(config.model, source.folder)
    parallelism = evolve(model.parallelism, fsdp_master_dtype=model.precision)
    optimizer = evolve(config.optimizer, keys_to_select=())
    return evolve(config, model=evolve(model, parallelism=parallelism), optimizer=optimizer)


def check_meaning(source: Source | None, config: RunConfig, weights: str) -> None:
    """Raises UserError when `config` would make another model of a run's tensors than the run did.

    How they were trained may differ: what trained, the loss, and, where `weights` are not 'ema', the average.
    """
    if source is None or source.record is None or source.kind not in ("run", "checkpoint"):
        return
    problems = []
    for change in changes(read_document(source.record).values, config, recorded_folders(source.record)):
        if change.rule == "refuse" and (weights == "ema" or not change.key.startswith("model.ema.")):
            was = "without it" if change.old is None else f"with {value_text(change.old)}"
            message = f"is {value_text(change.new)}, the weights were trained {was}"
            problems.append(Problem(message=message, key=change.key, hint="leave it as it was"))
    if problems:
        title = f"settings other than those that {source.folder} was trained with; nothing was started"
        raise UserError(title, problems)


def load_source(
    source: Source | None,
    config: RunConfig,
    *,
    plugins: PluginManager,
    weights: str = "ema",
    device: torch.device | None = None,
) -> tuple[ModelFamily, nn.Module]:
    """The family and network, in evaluation mode. config: of `adopted`. source: None for what a run would start from.

    weights: of a run 'ema' (the live ones when no average was kept), 'live', or 'fresh' for those that training started
    from. device: this process's when absent. Raises UserError when something is missing or does not fit.
    """
    mesh, rng = local_mesh(device), CounterRng(config.trainer.seed)
    origin = _origin(source, config, weights)
    family = build_family(config, plugins, mesh.device)
    model = materialise(config, family, mesh)
    ema, loaded = None, Loaded()
    if weights == "ema" and config.model.ema.enabled and origin.kind == "resume" and origin.path is not None:
        # Averages are of what the run trained, which the configuration may freeze.
        ema = Ema(model, config.model.ema, averaged_names(origin.path / "model"))
    if origin.path is not None and origin.kind == "published":
        loaded = Loaded(tensors=family.load_published(model, origin.path))
    elif origin.path is not None and origin.kind == "resume":
        places = places_of_base(config, family)
        _, loaded = load_checkpoint(origin.path, model, ema, mesh, seed=rng.seed, whole=False, places=places)
    elif origin.path is not None:
        skip, strict = config.checkpoint.keys_to_skip_loading, config.checkpoint.strict_resume
        loaded = load_base(origin.path, model, ema, mesh, skip=skip, strict=strict, num_layers=family.num_layers)
    initialise_rest(model, family, rng, loaded.tensors)
    if ema is not None and loaded.averages:
        ema.install()
    elif ema is not None:
        logger.warning("%s holds no average although its run keeps one; the live weights are used", origin.path)
    return family, model.eval()


def _origin(source: Source | None, config: RunConfig, weights: str) -> WeightSource:
    """Where the weights are, and how they are stored: as in a plan, or 'published'."""
    runs = source is not None and source.kind in ("run", "checkpoint")
    if source is None or (runs and weights == "fresh"):
        return starting_weights(config)
    if weights == "fresh":
        raise UserError(f"--weights fresh is for runs; {source.folder} is {source.label}")
    if source.weights is None:
        raise UserError(f"{source.folder} holds no complete checkpoint")
    kind = "resume" if runs else {"base": "warm"}.get(source.kind, source.kind)
    return WeightSource(kind=kind, path=source.weights)
