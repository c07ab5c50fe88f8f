"""Whether the Hub answers."""

from __future__ import annotations

from cosmos_core.errors import first_line

__all__ = ["unreachable"]

SECONDS = 10


def unreachable() -> str:
    """Why the Hub gives no answer, from one request; "" when it does. Its own client tries for half a minute."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except (OSError, HfHubHTTPError.__bases__[0]) as error:  # Of its HTTP library, which has changed twice.
        return first_line(error)
    return ""
