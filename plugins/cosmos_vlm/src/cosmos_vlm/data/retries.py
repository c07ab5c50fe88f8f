"""Patience with a network: a failed reading is tried again after growing waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from cosmos_core.errors import Problem, UserError

__all__ = ["retried"]

logger = logging.getLogger(__name__)

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further attempt; the Hub's client makes attempts of its own within each."""
RUNNING = "check the network and HF_TOKEN; the run resumes where it was saved last"

T = TypeVar("T")


def retried(action: Callable[[], T], what: str, waits: Sequence[float] = WAITS, hint: str = RUNNING) -> T:
    """The action's result. Raises UserError when the network fails every time; other faults pass at once."""
    from huggingface_hub.errors import HfHubHTTPError

    # The Hub's client has changed its HTTP library twice; its own error is always built on that library's.
    faults = OSError, HfHubHTTPError.__bases__[0]
    for number, wait in enumerate((*waits, None), start=1):
        try:
            return action()
        except faults as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if wait is None:
                message = reason if number == 1 else f"{reason} ({number} attempts)"
                problem = Problem(message=message, file=what, hint=hint)
                raise UserError("the Hub cannot be read", [problem]) from None
            logger.warning("reading %s failed (%s); attempt %d in %g s", what, reason, number + 1, wait)
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")
