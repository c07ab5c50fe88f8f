"""Progress of a run: lines at the bottom of a terminal, a line every few steps elsewhere."""

from __future__ import annotations

import logging
import textwrap
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from cosmos_core.builtin.config import Console as ConsoleConfig
from cosmos_core.console.layout import bar_line, clock, fit, number
from cosmos_core.console.terminal import is_terminal, kept, show
from cosmos_core.data.samples import Answer
from cosmos_core.plan.plan import RunPlan
from cosmos_core.train.tracker import Tracker

__all__ = ["ConsoleTracker"]

logger = logging.getLogger(__name__)

NUM_ANSWERS, MAX_CHARACTERS = 3, 80
"""Answers printed after a validation, and most characters of each text."""
WINDOW = 50
"""Steps over which speed and data wait are averaged."""


class ConsoleTracker(Tracker):
    """Step, loss and time left; with more columns also rates, gradient norm, speed, data wait; the last validation."""

    def __init__(self, config: ConsoleConfig) -> None:
        self.config = config
        self._every = 1
        self._step = self._last = 0
        self._begun = 0.0
        self._recent: deque[dict[str, Any]] = deque(maxlen=WINDOW)
        # Texts, since another thread draws them.
        self._main: list[str] = []
        self._details: list[str] = []
        self._more: list[str] = []
        self._validation: list[str] = []
        self._bottom = ExitStack()

    def start(self, plan: RunPlan, step: int) -> None:
        """Print the plan, then show progress from `step` on."""
        self._every, self._last = plan.config.trainer.logging_iter, plan.config.trainer.max_iter
        self._step, self._begun = step, time.monotonic()
        for name, text in plan.summary().items():
            _print(f"{name}: {text}")
        for line in (self._progress_line, self._details_line, self._validation_line):
            self._bottom.enter_context(kept(line))

    def log(self, record: dict[str, Any]) -> None:
        """Show a step, in plain lines every `logging_iter` steps, and every validation with all of its metrics."""
        if "val_loss" in record:
            metrics = {"loss": record["val_loss"], **record}
            values = [f"{name} {number(value)}" for name, value in metrics.items() if name not in ("step", "val_loss")]
            _print(f"step {record['step']}/{self._last}: validation {', '.join(values)}")
            self._validation = [f"validation at step {record['step']}", *values]
            return
        self._step = record["step"]
        self._recent.append(record)
        self._describe(record)
        if self._step % self._every == 0 or self._step == self._last:
            text = f"{self._steps()}: {', '.join([*self._main, *self._details, *self._more])}"
            if is_terminal():
                logger.debug("%s", text)
            else:
                _print(text)

    def log_answers(self, step: int, answers: Sequence[Answer]) -> None:
        """Print the first few, a line each."""
        for answer in answers[:NUM_ANSWERS]:
            prediction, reference = (
                textwrap.shorten(text, MAX_CHARACTERS) for text in (answer.prediction, answer.reference)
            )
            _print(f"step {step}/{self._last}: {answer.key}: answered {prediction!r}, the data says {reference!r}")

    def finish(self, outcome: str) -> None:
        """Remove the lines at the bottom, and say how the run ended."""
        self._bottom.close()
        _print(f"{outcome} at {', '.join([self._steps(), *self._main[:1]])} after {self._elapsed()}")

    def _progress_line(self, width: int) -> str:
        return bar_line(self._steps(), self._step / self._last, self._main, width)

    def _details_line(self, width: int) -> str:
        elapsed = [f"elapsed {self._elapsed()}"] if self._details else []
        return fit([*self._details, *elapsed, *self._more], width)

    def _validation_line(self, width: int) -> str:
        return fit(self._validation, width)

    def _steps(self) -> str:
        return f"step {self._step}/{self._last}"

    def _elapsed(self) -> str:
        return clock(time.monotonic() - self._begun)

    def _describe(self, record: dict[str, Any]) -> None:
        """Loss and time left, then the other metrics, the most important first; speed and wait over the last steps."""
        names = ("seconds", "tokens", "data_wait")
        seconds, tokens, wait = (sum(recent[name] for recent in self._recent) for name in names)
        left = (self._last - self._step) * seconds / len(self._recent)
        rates = [f"{name} {value:.2e}" for name, value in record.items() if name.partition("/")[0] == "lr"]
        self._main = [f"loss {record['loss']:.4f}", f"eta {clock(left)}"]
        self._details = [
            *rates[:1],
            f"grad {record['grad_norm']:.3f}",
            f"{tokens / max(seconds, 1e-9):,.0f} tokens/s",
            f"data wait {wait / max(seconds, 1e-9):.0%}",
        ]
        self._more = [
            *_utilisation(record),
            *([f"packs {record['pack_filled']:.0%} full"] if "pack_filled" in record else []),
            *self._hits(),
            *(f"{name[5:]} {value:.4f}" for name, value in record.items() if name.startswith("loss/")),
            *rates[1:],
        ]

    def _hits(self) -> list[str]:
        """How many clips of the last steps a latent cache had."""
        rates = [record["cache_hit_rate"] for record in self._recent if "cache_hit_rate" in record]
        return [f"cache: {sum(rates) / len(rates):.0%} of clips were encoded before"] if rates else []


def _utilisation(record: dict[str, Any]) -> list[str]:
    """Share of the peak, memory and where the step went, in rows that have them."""
    phases = [(name, value) for name, value in record.items() if name.startswith("time/")]
    parts = [f"{name.removeprefix('time/').replace('_', '+')} {value:.2f} s" for name, value in phases]
    return [
        *([f"MFU {record['mfu']:.1%}"] if "mfu" in record else []),
        *([f"{record['memory_gib']:.1f} GiB"] if parts and "memory_gib" in record else []),
        *parts,
    ]


def _print(text: str) -> None:
    """To the console, and to the log file."""
    show(text)
    logger.debug("%s", text)
