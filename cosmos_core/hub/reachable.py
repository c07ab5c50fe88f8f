"""Whether the Hub answers."""

from __future__ import annotations

from collections.abc import Sequence

from cosmos_core.errors import UserError
from cosmos_core.hub.retries import with_retries

__all__ = ["unreachable"]

SECONDS = 10


def unreachable(waits: Sequence[float] = ()) -> str:
    """Why the Hub gives no answer, from one request; "" when it does. Its own client tries for half a minute.

    waits: seconds before each further request. Any status is an answer.
    """
    from huggingface_hub import constants, get_session

    try:
        with_retries(lambda: get_session().head(constants.ENDPOINT, timeout=SECONDS), constants.ENDPOINT, waits)
    except UserError as error:
        return error.problems[0].message
    return ""
