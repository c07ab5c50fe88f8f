"""The validation metrics of any weights, in one process."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from math import isfinite
from pathlib import Path

from attrs import evolve, frozen
from torch import nn

from cosmos_core.config.run import RunConfig
from cosmos_core.data.source import described
from cosmos_core.distributed.fsdp import dtype
from cosmos_core.distributed.runtime import local_mesh
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.preflight import mismatched_records
from cosmos_core.plan.source import Source
from cosmos_core.plugin.descriptors import ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.build import validation_loader
from cosmos_core.train.load_for_eval import adopted, check_meaning, load_source
from cosmos_core.train.scores import Scoring
from cosmos_core.train.validate import Evaluation, evaluate

__all__ = ["EvaluationResult", "EvaluationTask", "evaluate_run"]

logger = logging.getLogger(__name__)

MAX_PICTURED = 200
"""Samples whose pictures are in the page, which would become too large for a browser with more."""


@frozen(kw_only=True)
class EvaluationTask:
    """What `cosmos eval` does. source, weights: as in `load_source`. folder: for the files of answers.

    limit: most batches. num_answers: most answers of the model, None for one to each sample. metrics: more than those
    of the dataset, as ``package.module:function``.
    """

    source: Source | None
    config: RunConfig
    folder: Path
    weights: str = "ema"
    limit: int | None = None
    num_answers: int | None = None
    metrics: tuple[str, ...] = ()


@frozen
class EvaluationResult:
    """metrics: by name. data: what was read, as the dataset describes it."""

    metrics: dict[str, float]
    data: str


def evaluate_run(task: EvaluationTask, *, plugins: PluginManager) -> EvaluationResult:
    """Evaluate in this process.

    Raises UserError when there is no validation data, when it does not suit the family, or when a metric cannot be
    imported or fails.
    """
    config = task.config
    if config.dataloader_val is None:
        hint = "name a dataset, file or folder: cosmos eval SOURCE DATASET; or set dataloader_val.dataset.type=NAME"
        problem = Problem(message="is not set", key="dataloader_val", hint=hint)
        raise UserError("there is no validation data", [problem])
    if problems := mismatched_records(config, plugins):
        raise UserError("the data does not suit the model family; nothing was started", problems)
    if task.weights != "fresh":
        check_meaning(task.source, config, task.weights)
    scoring = Scoring.of([data.type for data in config.dataloader_val.datasets.values()], plugins, task.metrics)
    config = adopted(task.source, config, plugins=plugins)
    if task.num_answers != 0:
        family_class = plugins.registry.get(ModelFamilySpec, config.job.task).family.load()
        config = evolve(config, model=family_class.answering(config.model))
    family, model = load_source(task.source, config, plugins=plugins, weights=task.weights)
    _cast(model, config)
    mesh = local_mesh()
    loader = validation_loader(config, family, plugins, mesh)
    assert loader is not None
    evaluation = Evaluation(
        family=family,
        model=model,
        loader=loader,
        mesh=mesh,
        seed=config.trainer.seed,
        weights=nullcontext,
        folder=task.folder,
        limit=task.limit,
        scoring=scoring,
        num_answers=task.num_answers,
        num_pictured=MAX_PICTURED,
        strict=True,
    )
    evaluated = evaluate(evaluation)
    if task.metrics and not evaluated.answers:
        message = f"there are no answers for {', '.join(task.metrics)}"
        hint = "leave out --metric, or evaluate a reasoner without --answers 0"
        raise UserError("a metric has nothing to score", [Problem(message=message, hint=hint)])
    if odd := [name for name, value in evaluated.metrics.items() if not isfinite(value)]:
        logger.warning(
            "not finite: %s; the model's outputs are NaN or infinite, as after training diverged", ", ".join(odd)
        )
    return EvaluationResult(evaluated.metrics, described(loader.source))


def _cast(model: nn.Module, config: RunConfig) -> None:
    """Cast parameters to the compute precision, as FSDP does in training; buffers are not cast."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype(config.model.precision))
