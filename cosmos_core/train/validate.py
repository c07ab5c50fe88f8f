"""Validation loss with fixed noise, so that steps are comparable, and scored answers."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from attrs import field, frozen
from torch import nn

from cosmos_core.console import Progress, progress
from cosmos_core.data.loader import MicroBatch, PackedLoader
from cosmos_core.data.samples import Answer
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import any_rank, gather_objects, sum_over_data
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.errors import Problem, UserError
from cosmos_core.seeds import stream_seed
from cosmos_core.train.agreement import raise_if_any_rank_failed
from cosmos_core.train.answer_files import Shown, score_and_write
from cosmos_core.train.answer_page import pictures, question
from cosmos_core.train.family import ModelFamily
from cosmos_core.train.scores import Scoring

__all__ = ["Evaluated", "Evaluation", "evaluate"]

logger = logging.getLogger(__name__)

DENOMINATOR = "_denominator"


@frozen(eq=False, kw_only=True)
class Evaluation:
    """An evaluation. weights: context in which the model has the weights to evaluate. folder: for files of answers.

    limit: most batches a rank takes. scoring: metrics of answers. num_answers: most answers, the files' included; None
    for one to each sample. num_pictured: how many answers the page shows with their pictures, of each rank.

    strict: whether a metric that fails is an error, once all files are written; else it is a warning. alive: called
    after each batch.
    """

    family: ModelFamily
    model: nn.Module
    loader: PackedLoader
    mesh: Mesh
    seed: int
    weights: Callable[[], AbstractContextManager[None]]
    folder: Path
    limit: int | None
    scoring: Scoring = field(factory=Scoring)
    num_answers: int | None = None
    num_pictured: int = 0
    strict: bool = False
    alive: Callable[[], None] = lambda: None


@frozen
class Evaluated:
    """metrics: by name, the same on every rank. answers: of all ranks by key, on rank 0."""

    metrics: dict[str, float]
    answers: list[Answer]


def evaluate(task: Evaluation) -> Evaluated:
    """One pass over the validation data. Collective."""
    rng = CounterRng(stream_seed(task.seed, "validation"))
    sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64, device=task.mesh.device))
    packs = islice(iter(task.loader), task.limit)
    answers: list[Answer] = []
    shown: dict[str, Shown] = {}
    task.model.eval()
    batch: Any = None
    with task.weights(), torch.no_grad(), _progress(task) as validating:
        while True:
            pack, failure = _next(packs)
            raise_if_any_rank_failed(failure, task.mesh)
            if not any_rank(pack is not None, task.mesh):
                break
            raise_if_any_rank_failed(_no_batch(task) if pack is None and batch is None else None, task.mesh)
            batch = task.family.collate(pack.items).to(task.mesh.device) if pack is not None else batch
            # A rank that ran out repeats its last batch uncounted: FSDP forward is a collective.
            for name, value in task.family.validation_step(task.model, batch, rng).items():
                sums[name] += value.double() * (pack is not None)
            if _too_few(answers, task):
                batch_answers = task.family.answers(task.model, batch)
                if pack is not None and batch_answers:
                    answers += batch_answers
                    shown |= _pictured(task, pack, task.num_pictured - len(shown))
            task.alive()
            if pack is not None:
                validating.advance(1 if task.limit is not None else len(pack.items))
    metrics = _means({name: float(sum_over_data(value, task.mesh)) for name, value in sums.items()})
    gathered = _gathered(answers, task)
    return Evaluated(metrics | _scored(task, gathered, shown, metrics), gathered)


def _means(totals: dict[str, float]) -> dict[str, float]:
    """Each sum over its own ``<name>_denominator``, else over ``loss_denominator``; none where that is 0."""
    denominators = {name: totals.pop(name) for name in list(totals) if name.endswith(DENOMINATOR)}
    means = {}
    for name, total in totals.items():
        count = denominators.get(name + DENOMINATOR, denominators["loss" + DENOMINATOR])
        if count or name + DENOMINATOR not in denominators:
            means[name] = total / count
    return means


def _pictured(task: Evaluation, pack: MicroBatch, count: int) -> dict[str, Shown]:
    """The first `count` samples of a pack as the page shows them, by key."""
    inputs = {item.key: task.family.model_input(item.value) for item in pack.items[: max(count, 0)]}
    return {key: Shown(question(value), pictures(value)) for key, value in inputs.items() if value is not None}


def _progress(task: Evaluation) -> AbstractContextManager[Progress]:
    """Progress of rank 0: in batches where they are limited, else in its samples."""
    if task.limit is not None:
        return progress("validating", task.limit, "batches")
    return progress("validating", len(task.loader.source) / task.mesh.data_world, "samples")


def _too_few(answers: list[Answer], task: Evaluation) -> bool:
    """Whether all ranks have fewer answers than are asked for. Collective."""
    if task.num_answers is None or not task.num_answers:
        return task.num_answers is None
    count = torch.tensor(float(len(answers)), dtype=torch.float64, device=task.mesh.device)
    return float(sum_over_data(count, task.mesh)) < task.num_answers


def _next(packs: Iterator[MicroBatch]) -> tuple[MicroBatch | None, UserError | None]:
    """The next pack, None at the end, or the error."""
    try:
        return next(packs, None), None
    except UserError as error:
        return None, error


def _no_batch(task: Evaluation) -> UserError:
    return UserError(
        f"the validation data gives rank {task.mesh.rank} no batch at all; use fewer processes, more samples, or a "
        f"smaller dataloader_val.max_samples_per_batch"
    )


def _gathered(answers: list[Answer], task: Evaluation) -> list[Answer]:
    """All ranks' answers by key, as many as were asked for."""
    parts = gather_objects(answers if task.mesh.rank % task.mesh.degrees.context == 0 else [], task.mesh)
    ordered = sorted((answer for part in parts for answer in part), key=lambda answer: answer.key)
    return ordered[: task.num_answers]


def _scored(
    task: Evaluation, answers: list[Answer], shown: dict[str, Shown], losses: dict[str, float]
) -> dict[str, float]:
    """The metrics of all ranks' answers; rank 0 writes the files. Raises UserError if `strict`."""
    parts = gather_objects(shown, task.mesh)
    metrics: dict[str, float] = {}
    problems: list[Problem] = []
    if task.mesh.rank == 0 and answers:
        every = {key: value for part in parts for key, value in part.items()}
        categories = task.loader.source.categories
        metrics, problems = score_and_write(answers, task.scoring, categories, every, losses, task.folder)
    if problems and task.strict:
        raise UserError(f"a metric failed; the other metrics and all answers are in {task.folder}", problems)
    for problem in problems:
        logger.warning("%s", problem.message)
    return gather_objects(metrics, task.mesh)[0]
