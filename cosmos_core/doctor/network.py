"""The Hub, and which tokens are set."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from cosmos_core.config.env import secrets_present
from cosmos_core.doctor.check import Check, DoctorOptions, Result

__all__ = ["checks"]

HUB = "https://huggingface.co"
SECONDS = 5


def checks(options: DoctorOptions) -> Iterator[Check]:
    """None of these makes a run on local files fail."""
    skipped = Result(status="skipped", message="not tried with --offline")
    yield Check(HUB, (lambda: skipped) if options.offline else _hub)
    for name, present in secrets_present().items():
        yield Check(name, partial(Result, status="ok", message="set" if present else "not set"))


def _hub() -> Result:
    try:
        with urlopen(Request(HUB, method="HEAD"), timeout=SECONDS) as answer:
            return Result(status="ok", message=f"reachable ({answer.status})")
    except HTTPError as error:
        return Result(status="ok", message=f"reachable ({error.code})")
    except (URLError, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        hint = "downloads fail until a proxy or the network is set up; runs on local files do not need it"
        return Result(status="note", message=f"not reachable: {reason}", hint=hint)
