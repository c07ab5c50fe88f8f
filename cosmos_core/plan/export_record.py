"""What an export says of itself: the run it came from, and defaults for using it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.formats import check_format
from cosmos_core.plan.paths import EXPORT_FILE
from cosmos_core.strict_json import loads

__all__ = ["ExportRecord", "read_export", "write_export"]

EXPORT_FORMAT = 1
"""Format number of ``cosmos_export.json``."""


@frozen(kw_only=True)
class ExportRecord:
    """``cosmos_export.json`` in an export (docs/checkpoints.md, Exports).

    task: the model family. run, step: where the weights were trained; "" and None of a base that no run trained.
    weights: 'ema' or 'live'. base, data: what training started from and saw, as text.

    generation: the family's defaults for using the weights, by name: of a generator `steps`, `guidance`, `shift`,
    `resolution`, `frames`, `fps` and so on, of a reasoner the pixel limits, frame rate and length of answers. A name
    that is not there has no recorded default.
    """

    task: str
    run: str = ""
    step: int | None = None
    weights: str = ""
    base: str = ""
    data: dict[str, str] = field(factory=dict)
    generation: dict[str, Any] = field(factory=dict)


def write_export(folder: Path, record: ExportRecord) -> None:
    """Write the record into an export."""
    content = {"format": EXPORT_FORMAT, **asdict(record)}
    (folder / EXPORT_FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_export(folder: Path) -> ExportRecord | None:
    """The record in an export; None when the folder has none, such as one that is published.

    Raises UserError when it is damaged or of a newer version.
    """
    path = folder / EXPORT_FILE
    try:
        content = loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read: {error}") from None
    check_format(content, path, EXPORT_FORMAT)
    types: dict[str, type | tuple[type, ...]] = {
        "task": str,
        "run": str,
        "step": (int, type(None)),
        "weights": str,
        "base": str,
        "data": dict,
        "generation": dict,
    }
    if not isinstance(content, Mapping) or "task" not in content:
        raise _damaged(path, "has no task")
    values = {name: content[name] for name in types if name in content}
    wrong = [name for name, value in values.items() if not isinstance(value, types[name])]
    if wrong:
        raise _damaged(path, f"has values of a wrong type: {', '.join(wrong)}")
    return ExportRecord(**values)


def _damaged(path: Path, message: str) -> UserError:
    problem = Problem(message=message, file=str(path), hint="export again, or remove the file to go without defaults")
    return UserError("what the export says of itself cannot be read", [problem])
