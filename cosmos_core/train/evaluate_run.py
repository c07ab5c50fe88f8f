"""The validation metrics of any weights, in one process."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from torch import nn

from cosmos_core.config.run import RunConfig
from cosmos_core.distributed.fsdp import dtype
from cosmos_core.distributed.runtime import local_mesh
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.preflight import mismatched_records
from cosmos_core.plan.source import Source
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.build import validation_loader
from cosmos_core.train.load_for_eval import adopted, load_source
from cosmos_core.train.validate import Evaluation, evaluate

__all__ = ["evaluate_run"]


def evaluate_run(
    source: Source | None,
    config: RunConfig,
    folder: Path,
    *,
    plugins: PluginManager,
    weights: str,
    limit: int | None,
) -> dict[str, float]:
    """Metrics by name. folder: for the files of answers and scores.

    source, weights: as in `load_source`. limit: most batches. Raises UserError when there is no validation data, or
    when it does not suit the family.
    """
    if config.dataloader_val is None:
        hint = "give one, e.g. dataloader_val.dataset.type=NAME dataloader_val.max_samples_per_batch=1"
        problem = Problem(message="is not set", key="dataloader_val", hint=hint)
        raise UserError("there is no validation data", [problem])
    if problems := mismatched_records(config, plugins):
        raise UserError("the data does not suit the model family; nothing was started", problems)
    config = adopted(source, config, plugins=plugins)
    family, model = load_source(source, config, plugins=plugins, weights=weights)
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
            folder=folder,
            limit=limit,
        )
    )


def _cast(model: nn.Module, config: RunConfig) -> None:
    """Cast parameters to the compute precision, as FSDP does in training; buffers are not cast."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype(config.model.precision))
