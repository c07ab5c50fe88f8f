"""Reads components back: warm starts take weights alone, resumes take everything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import CheckpointException

from cosmos_core.checkpoint.quiet import without_single_process_warning
from cosmos_core.checkpoint.reader import SafePlanner, SafeReader
from cosmos_core.checkpoint.state import model_state
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.optim.ema import Ema

__all__ = ["load_component", "load_loader_states", "load_model"]

SHOWN = 8


def load_component(folder: Path, state: dict[str, Any], mesh: Mesh) -> None:
    """Fill `state` in place from a DCP directory; tensors are cast to the dtype they are loaded into.

    Raises UserError when the directory is damaged or holds more than data.
    """
    SafeReader(folder).read_metadata()  # torch prints tracebacks when it finds it damaged.
    try:
        with without_single_process_warning():
            dcp.load(state, storage_reader=SafeReader(folder), planner=SafePlanner(), no_dist=not mesh.distributed)
    except CheckpointException as error:
        for cause, _ in error.failures.values():
            if isinstance(cause, UserError):
                raise cause from None
        raise


def load_model(
    folder: Path,
    model: nn.Module,
    ema: Ema | None,
    mesh: Mesh,
    *,
    skip: Sequence[str] = (),
    strict: bool = True,
    adapters_only: bool = False,
) -> bool:
    """Load ``model/`` into the network and its average; returns whether the average was in the checkpoint.

    skip: tensors whose name contains one of these keep their values. adapters_only: as in `model_state`. Raises
    UserError listing tensors that are missing (when strict) or have another shape.
    """
    reader = SafeReader(folder)
    stored = reader.read_metadata().state_dict_metadata
    values = model_state(model, ema, adapters_only=adapters_only)
    wanted = {name: value for name, value in values.items() if not any(key in name for key in skip)}
    has_average = ema is not None and any(name in stored for name in wanted if name.startswith("net_ema."))
    if not has_average:
        wanted = {name: value for name, value in wanted.items() if not name.startswith("net_ema.")}
    missing = sorted(name for name in wanted if name not in stored)
    other = sorted(
        f"{name} {_size(stored[name])} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in stored and _size(stored[name]) != tuple(value.shape)
    )
    if other or (missing and strict):
        raise _mismatch(folder, missing if strict else [], other)
    state = {name: value for name, value in wanted.items() if name in stored}
    with torch.no_grad():
        load_component(folder, state, mesh)
    return has_average


def _size(stored: Any) -> tuple[int, ...]:
    return tuple(getattr(stored, "size", ()))


def _mismatch(folder: Path, missing: list[str], other: list[str]) -> UserError:
    problems = [
        Problem(message=f"{len(names)} tensors {what}: {_first(names)}", file=str(folder), hint=hint)
        for what, names, hint in (
            ("are missing", missing, "is it the right model? checkpoint.keys_to_skip_loading leaves tensors out"),
            ("have another shape", other, "is it the right model and size?"),
        )
        if names
    ]
    return UserError(f"the checkpoint {folder.parent} does not fit the model; nothing was started", problems)


def _first(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def load_loader_states(folder: Path) -> list[Any]:
    """The saved loader state of every old rank, in rank order. Raises UserError when one holds more than data."""
    files = sorted(folder.glob("rank_*.pkl"), key=lambda path: int(path.stem.partition("_")[2]))
    return [_loader_state(path) for path in files]


def _loader_state(path: Path) -> Any:
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:  # A damaged pickle fails in any way.
        hint = "without the folder dataloader/ the data begins anew"
        problem = Problem(
            message=f"holds more than plain values, or is damaged: {first_line(error)}", file=str(path), hint=hint
        )
        raise UserError("the state of the data cannot be read; nothing was started", [problem]) from None
