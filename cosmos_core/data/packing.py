"""Greedy packing of a stream of samples into micro-batches (docs/data.md, Greedy packing)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from cosmos_core.data.samples import Item
from cosmos_core.errors import Problem, UserError

__all__ = ["LOOKAHEAD", "PreparedSample", "pack_stream"]

LOOKAHEAD = 10
"""Samples that may be held back before a micro-batch is complete."""


@dataclass(frozen=True, slots=True)
class PreparedSample:
    """A prepared sample to be packed. key: its name in messages. kind: the pool packer packs one kind together."""

    item: Item
    num_tokens: int
    key: str
    kind: str = ""


def pack_stream(
    stream: Iterator[PreparedSample],
    *,
    max_samples: int | None,
    max_tokens: int | None,
    section: str = "dataloader_train",
) -> Iterator[tuple[list[Item], list[int], int]]:
    """Micro-batches, each with the positions held back for the next ones, in order, and its number of tokens.

    A sample is added when the sum stays strictly below `max_tokens`; one that does not fit is first in line for the
    next batch. section: of the configuration, for messages. Raises UserError for a sample that can never fit; it is
    never dropped silently.
    """
    waiting: deque[PreparedSample] = deque()
    while True:
        batch: list[Item] = []
        aside: list[PreparedSample] = []
        used = 0
        while not (batch and len(aside) >= LOOKAHEAD) and len(batch) != max_samples:
            sample = waiting.popleft() if waiting else next(stream, None)
            if sample is None:
                break
            if max_tokens is None or used + sample.num_tokens < max_tokens:
                batch.append(sample.item)
                used += sample.num_tokens
            elif batch:
                aside.append(sample)
            else:
                raise _too_large(sample, max_tokens, section)
        waiting.extendleft(reversed(aside))
        if not batch:
            return
        yield batch, [sample.item.position for sample in waiting], used


def _too_large(sample: PreparedSample, cap: int, section: str) -> UserError:
    problem = Problem(
        message=f"sample {sample.key} takes {sample.num_tokens} tokens and can never fit under {cap}",
        key=f"{section}.max_sequence_length",
        hint=f"set it (and model.max_num_tokens_after_packing, if that is set) above {sample.num_tokens}, or lower the "
        "resolution or the number of frames",
    )
    return UserError("a sample is larger than a whole micro-batch", [problem])
