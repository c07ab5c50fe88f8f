"""The validation metrics of a saved run, in one process."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from torch import nn

from cosmos_core.config.run import RunConfig
from cosmos_core.distributed.fsdp import dtype
from cosmos_core.distributed.runtime import local_mesh
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.build import validation_loader
from cosmos_core.train.load_for_eval import load_for_eval, recorded_config
from cosmos_core.train.validate import Evaluation, evaluate

__all__ = ["evaluate_run"]


def evaluate_run(
    run_dir: Path, *, plugins: PluginManager, step: int | None, weights: str, limit: int | None
) -> dict[str, float]:
    """Metrics by name; what scoring writes goes to ``evaluation/`` in the run directory.

    step, weights: as in `load_for_eval`. limit: most batches a rank takes. Raises UserError when the run has no
    validation data.
    """
    paths = RunPaths(run_dir)
    config = recorded_config(run_dir, plugins=plugins, step=step, weights=weights)
    if config.dataloader_val is None:
        problem = Problem(message="is not set", key="dataloader_val", file=str(paths.config_toml))
        raise UserError("the run has no validation data", [problem])
    family, model = load_for_eval(run_dir, plugins=plugins, step=step, weights=weights)
    _cast(model, config)
    mesh = local_mesh()
    loader = validation_loader(config, family, plugins, mesh)
    assert loader is not None
    return evaluate(
        Evaluation(
            family=family,
            model=model,
            loader=loader,
            mesh=mesh,
            seed=config.trainer.seed,
            weights=nullcontext,
            folder=paths.evaluation,
            limit=limit,
        )
    )


def _cast(model: nn.Module, config: RunConfig) -> None:
    """Cast parameters to the compute precision, as FSDP does in training; buffers are not cast."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype(config.model.precision))
