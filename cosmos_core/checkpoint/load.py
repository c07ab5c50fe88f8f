"""Loads components: a warm start takes the weights alone, a resumed run takes everything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from attrs import frozen
from torch import nn
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from cosmos_core.checkpoint.loader_state import check_loader_states
from cosmos_core.checkpoint.reader import SafePlanner, SafeReader, not_plain
from cosmos_core.checkpoint.state import AVERAGED, LIVE, model_state
from cosmos_core.checkpoint.warning_filter import without_single_process_warning
from cosmos_core.console import Progress, progress
from cosmos_core.data.sampler import LOADER_FORMAT, is_loader_state
from cosmos_core.data.workers import is_lost_worker
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.errors import Problem, UserError
from cosmos_core.formats import check_format
from cosmos_core.names import is_cut_off, nearest_part
from cosmos_core.optim.ema import Ema
from cosmos_core.optim.lora import is_lora
from cosmos_core.plan.manifest import SameContent

__all__ = ["Loaded", "averaged_names", "load_component", "load_from_base", "load_loader_states", "load_model"]

NUM_NAMED = 8
_ADAPTER = ("lora_A.weight", "lora_B.weight")


def load_component(folder: Path, state: dict[str, Any], mesh: Mesh, loading: Progress | None = None) -> None:
    """Fill `state` in place from a DCP directory; tensors are cast to the dtype they are loaded into.

    loading: counts the bytes this rank reads. Raises UserError when the directory is damaged or holds more than data.
    """
    SafeReader(folder).read_metadata()  # First, since torch prints tracebacks for a damaged one.
    try:
        with without_single_process_warning():
            planner = SafePlanner(loading)
            dcp.load(state, storage_reader=SafeReader(folder), planner=planner, no_dist=not mesh.distributed)
    except CheckpointException as error:
        for cause, _ in error.failures.values():
            if isinstance(cause, (UserError, KeyboardInterrupt)):
                raise cause from None
        raise


def averaged_names(folder: Path) -> frozenset[str]:
    """Names of the network's tensors whose average a ``model/`` holds. Raises UserError when it is damaged."""
    return _without(AVERAGED, SafeReader(folder).read_metadata().state_dict_metadata)


@frozen
class Loaded:
    """What a load filled. tensors: names of the network's tensors; averages: names in the moving average.

    unused: other tensors of the checkpoint, with their prefix ``net.`` or ``net_ema.``.
    """

    tensors: frozenset[str] = frozenset()
    averages: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()


def load_model(
    folder: Path,
    model: nn.Module,
    ema: Ema | None,
    mesh: Mesh,
    *,
    skip: Sequence[str] = (),
    strict: bool = True,
    whole: bool = True,
    left_out: Collection[str] = (),
    num_layers: int | None = None,
) -> Loaded:
    """Load ``model/`` into the network and its average; the caller fills what the result does not name.

    skip: tensors whose name contains one of these are not loaded. strict: a missing tensor is an error; so is a stored
    tensor that the model lacks in a part it has (a part it lacks entirely, such as an action head, is only named in
    the result). whole, for resuming: every stored tensor is used, and an average is stored exactly when `ema` is set.
    left_out: tensors that are not in it but in its base. num_layers: of a model that is cut; stored layers past these
    are only named.

    Raises UserError listing what is missing, unused or of another shape, and for an entry of `skip` that is part of no
    tensor's name. Unused adapters are always an error, since the other weights would compute something else without
    them.
    """
    content = SameContent(folder.parent)
    stored = SafeReader(folder).read_metadata().state_dict_metadata
    own, below = model_state(model, ema), {f"{LIVE}{name}" for name in left_out}
    _check_skip(skip, [*stored, *own])
    targets = {name: own[name] for name in own if name not in below and not any(key in name for key in skip)}
    has_average = any(name in stored for name in targets if name.startswith(AVERAGED))
    if not has_average and not (whole and ema is not None):
        targets = {name: value for name, value in targets.items() if not name.startswith(AVERAGED)}
    missing, reshaped = _compare(targets, stored)
    unused = sorted(name for name in {*stored, *below} if name not in targets and name not in below & own.keys())
    surplus = [name for name in unused if not is_cut_off(name, num_layers) and not any(key in name for key in skip)]
    rejected = [name for name in surplus if _must_be_used(name, model, ema, strict=strict, whole=whole)]
    none_stored = not any(name in stored for name in targets)
    required = missing if strict or whole or none_stored else []
    if reshaped or required or rejected:
        raise _mismatch(folder, required, reshaped, rejected)
    state = {name: value for name, value in targets.items() if name in stored}
    with content.reading(), torch.no_grad(), progress("loading weights", unit="bytes") as loading:
        load_component(folder, state, mesh, loading)
    return Loaded(_without(LIVE, state), _without(AVERAGED, state), tuple(unused))


def load_from_base(folder: Path, model: nn.Module, names: Collection[str], mesh: Mesh) -> None:
    """Load these tensors of the network from a DCP directory that may hold more. Raises UserError as `load_model`."""
    content, own = SameContent(folder.parent), model_state(model, None)
    state: dict[str, Any] = {f"{LIVE}{name}": own[f"{LIVE}{name}"] for name in names}
    missing, reshaped = _compare(state, SafeReader(folder).read_metadata().state_dict_metadata)
    if missing or reshaped:
        raise _mismatch(folder, missing, reshaped, [])
    with content.reading(), torch.no_grad(), progress("loading the base", unit="bytes") as loading:
        load_component(folder, state, mesh, loading)


def _compare(targets: Mapping[str, torch.Tensor], stored: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Tensors that are not stored, and those that are stored in another shape."""
    missing = sorted(name for name in targets if name not in stored)
    reshaped = sorted(
        f"{name} {_size(stored[name])} instead of {tuple(value.shape)}"
        for name, value in targets.items()
        if name in stored and _size(stored[name]) != tuple(value.shape)
    )
    return missing, reshaped


def _check_skip(skip: Sequence[str], names: Sequence[str]) -> None:
    """Averages and adapters may be left out of any checkpoint, whether it has some or not."""
    possible = [*names, *(f"{AVERAGED}{name.removeprefix(LIVE)}" for name in names), *_ADAPTER]
    problems = [
        Problem(
            message=f"'{key}' is part of no tensor's name in the checkpoint or the model",
            key="checkpoint.keys_to_skip_loading",
            hint=nearest_part(key, possible) or "names look like " + ", ".join(names[:2]),
        )
        for key in skip
        if not any(key in name for name in possible)
    ]
    if problems:
        raise UserError("checkpoint.keys_to_skip_loading leaves nothing out; nothing was started", problems)


def _must_be_used(name: str, model: nn.Module, ema: Ema | None, *, strict: bool, whole: bool) -> bool:
    """Whether a stored tensor that the model lacks is an error."""
    if is_lora(name):
        return True
    if name.startswith(AVERAGED):
        # An average may cover weights that are frozen now; their live values are loaded.
        known = dict(model.named_parameters()) if ema is not None else {}
        return whole and name.removeprefix(AVERAGED) not in known
    part = name.removeprefix(LIVE).partition(".")[0]
    return whole or (strict and part in dict(model.named_children()))


def _without(prefix: str, names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def _size(stored: Any) -> tuple[int, ...]:
    return tuple(stored.size) if isinstance(stored, TensorStorageMetadata) else ()


def _mismatch(folder: Path, missing: list[str], reshaped: list[str], surplus: list[str]) -> UserError:
    skip = "checkpoint.keys_to_skip_loading leaves tensors out of a warm start"
    problems = [
        Problem(message=f"{len(names)} {_tensors(names)} {what}: {_first(names)}", file=str(folder), hint=hint)
        for what, names, hint in (
            ("missing", missing, f"is it the right model? {skip}"),
            ("of another shape", reshaped, "is it the right model and size?"),
            ("not part of the model", surplus, f"does the recipe enable what trained them? {skip}"),
        )
        if names
    ]
    return UserError(f"the checkpoint {folder.parent} does not fit the model; nothing was started", problems)


def _tensors(names: list[str]) -> str:
    return "tensor is" if len(names) == 1 else "tensors are"


def _first(names: list[str]) -> str:
    rest = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return ", ".join(names[:NUM_NAMED]) + rest


def load_loader_states(folder: Path) -> list[Any]:
    """The saved loader state of every old rank, in rank order.

    Raises UserError when one holds more than data, is too new, or could not have been written by a loader.
    """
    numbers = {path: path.stem.removeprefix("rank_") for path in folder.glob("rank_*.pkl")}
    files = sorted((path for path in numbers if numbers[path].isdecimal()), key=lambda path: int(numbers[path]))
    states = [_loader_state(path) for path in files]
    own = [state for state in states if is_loader_state(state)]
    try:
        check_loader_states(own)
    except ValueError as error:
        raise _no_state(folder, str(error)) from None
    return states


def _loader_state(path: Path) -> Any:
    try:
        state = torch.load(path, weights_only=True)
    except Exception as error:  # A damaged pickle can raise anything.
        if is_lost_worker(error):
            raise
        raise _no_state(path, not_plain(error)) from None
    check_format(state, path, LOADER_FORMAT)
    return state


def _no_state(path: Path, message: str) -> UserError:
    hint = "without dataloader/ and manifest.json the data start from the beginning"
    problem = Problem(message=message, file=str(path), hint=hint)
    return UserError("the state of the data cannot be read; nothing was started", [problem])
