"""Whether the Hub answers."""

from __future__ import annotations

from cosmos_core.errors import first_line
from cosmos_core.hub.retries import network_errors

__all__ = ["unreachable"]

SECONDS = 10


def unreachable() -> str:
    """Why the Hub gives no answer, from one request; "" when it does. Its own client tries for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except network_errors() as error:
        return first_line(error)
    return ""
