"""Validation loss with fixed noise, so that steps are comparable, and scored answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import nn

from cosmos_core.console import Progress, progress
from cosmos_core.data.loader import MicroBatch, PackedLoader
from cosmos_core.data.samples import Answer
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import any_rank, gather_objects, sum_over_data
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.errors import UserError
from cosmos_core.seeds import stream_seed
from cosmos_core.train.agreement import raise_if_any_rank_failed
from cosmos_core.train.family import ModelFamily

__all__ = ["Evaluation", "evaluate"]


@frozen(eq=False)
class Evaluation:
    """An evaluation. weights: context in which the model has the weights to evaluate. folder: for files of scores.

    limit: most batches a rank takes. alive: called after each batch.
    """

    family: ModelFamily
    model: nn.Module
    loader: PackedLoader
    mesh: Mesh
    seed: int
    weights: Callable[[], AbstractContextManager[None]]
    folder: Path
    limit: int | None
    alive: Callable[[], None] = lambda: None


def evaluate(task: Evaluation) -> dict[str, float]:
    """One pass over the validation data; metrics by name, the same on every rank."""
    rng = CounterRng(stream_seed(task.seed, "validation"))
    sums: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64, device=task.mesh.device))
    packs = islice(iter(task.loader), task.limit)
    answers: list[Answer] = []
    scores = task.loader.source.scores
    task.model.eval()
    batch: Any = None
    with task.weights(), torch.no_grad(), _shown(task) as validating:
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
            if scores or _too_few(answers, task):
                batch_answers = task.family.answers(task.model, batch)
                answers += batch_answers if pack is not None else []
            task.alive()
            if pack is not None:
                validating.advance(1 if task.limit is not None else len(pack.items))
    totals = {name: float(sum_over_data(value, task.mesh)) for name, value in sums.items()}
    denominator = totals.pop("loss_denominator")
    return {name: value / denominator for name, value in totals.items()} | _scored(task, answers)


def _shown(task: Evaluation) -> AbstractContextManager[Progress]:
    """Progress of rank 0: in batches where they are limited, else in its samples."""
    if task.limit is not None:
        return progress("validating", task.limit, "batches")
    return progress("validating", len(task.loader.source) / task.mesh.data_world, "samples")


def _too_few(answers: list[Answer], task: Evaluation) -> bool:
    """Whether all ranks have fewer answers than the family gives to data that does not score them. Collective."""
    limit = task.family.num_sample_answers
    if not limit:
        return False
    count = torch.tensor(float(len(answers)), dtype=torch.float64, device=task.mesh.device)
    return float(sum_over_data(count, task.mesh)) < limit


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


def _scored(task: Evaluation, answers: list[Answer]) -> dict[str, float]:
    """The dataset's metrics over all ranks' answers; rank 0 writes the files."""
    gathered = gather_objects(answers if task.mesh.rank % task.mesh.degrees.context == 0 else [], task.mesh)
    ordered = sorted((answer for part in gathered for answer in part), key=lambda answer: answer.key)
    metrics: dict[str, float] = {}
    if task.mesh.rank == 0 and ordered:
        task.folder.mkdir(parents=True, exist_ok=True)
        source = task.loader.source
        _write_answers(ordered if source.scores else ordered[: task.family.num_sample_answers], task.folder)
        metrics = source.score(ordered, task.folder) if source.scores else {}
    return gather_objects(metrics, task.mesh)[0]


def _write_answers(answers: list[Answer], folder: Path) -> None:
    """``answers.jsonl``: for each sample its key, what the model said, and the answer in the data."""
    lines = [json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers]
    (folder / "answers.jsonl").write_text("".join(lines), encoding="utf-8", errors="replace")
