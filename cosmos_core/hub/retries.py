"""Retries of network reads, after growing waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from cosmos_core.errors import Problem, UserError, first_line

__all__ = ["network_errors", "with_retries"]

logger = logging.getLogger(__name__)

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further attempt. The Hub's client retries within each attempt too."""
RESUME_HINT = "check the network and HF_TOKEN; the run resumes from its last checkpoint"

T = TypeVar("T")


def network_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises where the network fails: its errors, and those of its HTTP library.

    That library has changed twice; the client's own error always derives from the library's.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return OSError, HfHubHTTPError.__bases__[0]


def with_retries(action: Callable[[], T], name: str, waits: Sequence[float] = WAITS, hint: str = RESUME_HINT) -> T:
    """The action's result. name: of what it reads, for messages.

    Raises UserError when the network fails every time; other errors are not retried, and nothing is without a network
    by HF_HUB_OFFLINE.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    for number, wait in enumerate((*waits, None), start=1):
        try:
            return action()
        except network_errors() as error:
            reason = first_line(error)
            if wait is None or isinstance(error, OfflineModeIsEnabled):
                message = reason if number == 1 else f"{reason} ({number} attempts)"
                problem = Problem(message=message, file=name, hint=hint)
                raise UserError("the Hub cannot be read", [problem]) from None
            logger.warning("reading %s failed (%s); attempt %d in %g s", name, reason, number + 1, wait)
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")
