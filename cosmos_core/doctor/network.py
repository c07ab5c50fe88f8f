"""The Hub, and which tokens are set."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from huggingface_hub import constants

from cosmos_core.config.env import secrets_present
from cosmos_core.doctor.check import Check, DoctorOptions, Result
from cosmos_core.hub.reachable import unreachable

__all__ = ["checks"]


def checks(options: DoctorOptions) -> Iterator[Check]:
    """None of these makes a run on local files fail."""
    skipped = Result(status="skipped", message="not tried with --offline")
    yield Check(constants.ENDPOINT, (lambda: skipped) if options.offline else _hub)
    for name, present in secrets_present().items():
        yield Check(name, partial(Result, status="ok", message="set" if present else "not set"))


def _hub() -> Result:
    reason = unreachable()
    if not reason:
        return Result(status="ok", message="reachable")
    hint = "downloads fail until a proxy or the network is set up; runs on local files do not need it"
    return Result(status="note", message=f"not reachable: {reason}", hint=hint)
