"""Loads a finished or stopped run for evaluation, in one process."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import nn

from cosmos_core.checkpoint.load import Loaded
from cosmos_core.config.run import RunConfig
from cosmos_core.config.structure import read_resolved
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.distributed.runtime import local_mesh
from cosmos_core.errors import UserError
from cosmos_core.optim.ema import Ema
from cosmos_core.plan.checkpoint import latest_complete
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.trained import trained_by
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.build import build_family, materialise
from cosmos_core.train.family import ModelFamily
from cosmos_core.train.weights import initialise_rest, load_checkpoint

__all__ = ["load_for_eval", "recorded_config"]

logger = logging.getLogger(__name__)


def recorded_config(
    run_dir: Path, *, plugins: PluginManager, step: int | None = None, weights: str = "ema"
) -> RunConfig:
    """The configuration behind the weights that `load_for_eval` loads. Raises UserError for no such checkpoint."""
    paths = RunPaths(run_dir)
    path = None if weights == "fresh" else _checkpoint(paths, step)
    trained = trained_by(path) if path is not None else None
    return read_resolved(trained.config if trained is not None else paths.config_toml, plugins.registry)


def load_for_eval(
    run_dir: Path, *, plugins: PluginManager, step: int | None = None, weights: str = "ema"
) -> tuple[ModelFamily, nn.Module]:
    """The family and network of a run, in evaluation mode.

    step: which checkpoint, the latest when absent. weights: 'ema' (the live ones when no average was kept), 'live', or
    'fresh' for those that training started from. Raises UserError when there is no such checkpoint.
    """
    paths, mesh = RunPaths(run_dir), local_mesh()
    config = recorded_config(run_dir, plugins=plugins, step=step, weights=weights)
    path = None if weights == "fresh" else _checkpoint(paths, step)
    rng = CounterRng(config.trainer.seed)
    family = build_family(config, plugins, mesh.device)
    model = materialise(config, family, mesh)
    ema = Ema(model, config.model.ema) if weights == "ema" and config.model.ema.enabled else None
    loaded = Loaded()
    if path is not None:
        _, loaded = load_checkpoint(path, model, ema, mesh, seed=rng.seed, whole=False)
    initialise_rest(model, family, rng, loaded.tensors)
    if ema is not None and loaded.averages:
        ema.install()
    elif ema is not None and path is not None:
        logger.warning("%s holds no average although its run keeps one; the live weights are used", path)
    return family, model.eval()


def _checkpoint(paths: RunPaths, step: int | None) -> Path:
    path = paths.iteration(step) if step is not None else latest_complete(paths.checkpoints)
    if path is None or not path.is_dir():
        raise UserError(f"{paths.root} holds no complete checkpoint" + (f" of step {step}" if step else ""))
    return path
