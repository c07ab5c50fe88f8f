"""Which launch trained a checkpoint, and with which configuration."""

from __future__ import annotations

import json
from pathlib import Path

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.formats import check_format
from cosmos_core.plan.paths import LAUNCH_FILE, RunPaths
from cosmos_core.strict_json import read_object

__all__ = ["LAUNCH_FORMAT", "Trained", "trained_by", "write_launch"]

LAUNCH_FORMAT = 1
"""Format number of ``launch.json``."""

UNNUMBERED = 0
"""Folder of the record of a run from before launches had numbers."""
LAST = 10**9
"""Larger numbers are damage."""


@frozen
class Trained:
    """config: the ``config.toml`` of the launch. launch: its number; None of a run that has none.

    lost: whether the checkpoint names a launch whose record is gone, so that the run's own record was taken.
    """

    config: Path
    launch: int | None = None
    lost: bool = False


def trained_by(checkpoint: Path) -> Trained | None:
    """What trained an ``iter_<N>`` folder; None when no run says. Raises UserError for a damaged record."""
    checkpoint = checkpoint.resolve()
    paths, number = RunPaths(checkpoint.parent.parent), _number(checkpoint / LAUNCH_FILE)
    for trained in (
        Trained(paths.launch(UNNUMBERED if number is None else number).config_toml, number),
        Trained(paths.config_toml, lost=number is not None),
    ):
        if trained.config.is_file():
            return trained
    return None


def write_launch(checkpoint: Path, number: int) -> None:
    """Write the launch's number into a checkpoint's folder."""
    text = json.dumps({"format": LAUNCH_FORMAT, "launch": number})
    (checkpoint / LAUNCH_FILE).write_text(text + "\n", encoding="utf-8")


def _number(path: Path) -> int | None:
    if not path.is_file():
        return None
    title = "the checkpoint does not say what trained it; nothing was started"
    hint = "remove this file to take the run's config.toml as what trained it"
    values = read_object(path, title, hint)
    check_format(values, path, LAUNCH_FORMAT)
    number = values.get("launch")
    if isinstance(number, int) and not isinstance(number, bool) and UNNUMBERED < number <= LAST:
        return number
    raise UserError(title, [Problem(message="does not name a launch; it is damaged", file=str(path), hint=hint)])
