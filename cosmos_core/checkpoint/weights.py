"""Tensors of a checkpoint one by one, from any format: a run's with what it left to its base, a base's, adapters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from attrs import frozen

from cosmos_core.checkpoint.load import load_component
from cosmos_core.checkpoint.safetensors_open import open_safetensors
from cosmos_core.checkpoint.state import AVERAGED, LIVE
from cosmos_core.checkpoint.stream import stored_tensors
from cosmos_core.distributed.fsdp import dtype
from cosmos_core.distributed.runtime import local_mesh
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import by_layer, is_cut_off
from cosmos_core.plan.frozen_base import FrozenBase
from cosmos_core.plan.manifest import SameContent

__all__ = [
    "BaseWeights",
    "DcpWeights",
    "MergedWeights",
    "OverlaidWeights",
    "SafetensorsWeights",
    "StoredWeights",
    "TensorInfo",
    "base_of_adapters",
    "trained_weights",
    "whole_weights",
]

A, B = ".lora_A.weight", ".lora_B.weight"


@frozen
class TensorInfo:
    """Shape and dtype of a stored tensor."""

    shape: torch.Size
    dtype: torch.dtype


class StoredWeights(Protocol):
    """Tensors by the network's own names (without ``net.``); only the tensors read are in memory."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """All tensors, in stored order."""
        ...

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """These tensors, on the CPU, as stored."""
        ...


class DcpWeights:
    """``model/`` of a checkpoint. kind: 'live'; 'ema' for the average; "" for the average if there is one, else live.

    Raises UserError when there are no weights, or no average where 'ema' is asked for.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self._content = folder, SameContent(folder.parent)
        tensors = stored_tensors(folder)
        live = [name.removeprefix(LIVE) for name in tensors if name.startswith(LIVE)]
        if not live:
            problem = Problem(message="no tensor is called net.<...>", file=str(folder))
            raise UserError("there is nothing to export", [problem])
        averaged = kind != "live"
        self._stored = {
            name: AVERAGED + name if averaged and AVERAGED + name in tensors else LIVE + name for name in live
        }
        self.infos = {name: TensorInfo(*tensors[stored]) for name, stored in self._stored.items()}
        if kind == "ema" and not self.averaged:
            problem = Problem(message="it holds only live weights", file=str(folder), hint="leave --weights out")
            raise UserError("the checkpoint keeps no average; nothing was exported", [problem])

    @property
    def averaged(self) -> int:
        """How many tensors are averages."""
        return sum(stored.startswith(AVERAGED) for stored in self._stored.values())

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """From the DCP directory. Raises UserError when it is damaged, or was replaced since this was made."""
        state: dict[str, Any] = {
            self._stored[name]: torch.empty(self.infos[name].shape, dtype=self.infos[name].dtype) for name in names
        }
        with self._content.reading():
            load_component(self.folder, state, local_mesh(torch.device("cpu")))
        return {name: state[self._stored[name]] for name in names}


class SafetensorsWeights:
    """All ``*.safetensors`` of a folder, under the names stored in them."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        self.infos: dict[str, TensorInfo] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with open_safetensors(path) as file:
                for name in file.keys():  # noqa: SIM118
                    self._files[name] = path
                    self.infos[name] = _info(file, name)
        if not self.infos:
            raise UserError(f"{folder} holds no safetensors")

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """From the files, each opened once."""
        tensors = {}
        for path in dict.fromkeys(self._files[name] for name in names):
            with open_safetensors(path) as file:
                tensors.update({name: file.get_tensor(name) for name in names if self._files[name] == path})
        return {name: tensors[name] for name in names}


def _info(file: Any, name: str) -> TensorInfo:
    part = file.get_slice(name)
    names = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
    stored = part.get_dtype()
    dtype = names.get(stored)
    return TensorInfo(torch.Size(part.get_shape()), file.get_tensor(name).dtype if dtype is None else dtype)


class MergedWeights:
    """A base's weights with adapters merged: W + scale B A, computed in float32 and rounded once."""

    def __init__(self, base: StoredWeights, adapters: StoredWeights, scale: float) -> None:
        self.base, self.adapters, self.scale = base, adapters, scale
        used = [name for name in base.infos if not name.endswith((A, B))]
        self.infos = {name: base.infos[name] for name in used}
        self._adapted = {name.removesuffix(A) + ".weight" for name in adapters.infos if name.endswith(A)}
        unknown = sorted(self._adapted - set(self.infos))
        if unknown:
            problem = Problem(message=f"the base has no {unknown[0]}, which an adapter belongs to")
            raise UserError("the adapters do not fit the base; nothing was exported", [problem])

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """From both."""
        return {name: self._merged(name, value) for name, value in self.base.read(names).items()}

    def _merged(self, name: str, value: torch.Tensor) -> torch.Tensor:
        if name not in self._adapted:
            return value
        stem = name.removesuffix(".weight")
        parts = self.adapters.read([stem + A, stem + B])
        return (value.float() + self.scale * (parts[stem + B].float() @ parts[stem + A].float())).to(value.dtype)


class OverlaidWeights:
    """The tensors of `over`, and those of `under` that `over` lacks.

    num_layers: layers of `under` past these are left out. order: names that come first.
    """

    def __init__(
        self, over: StoredWeights, under: StoredWeights, num_layers: int | None = None, order: Iterable[str] = ()
    ) -> None:
        self.over, self.under = over, under
        added = [name for name in under.infos if name not in over.infos and not is_cut_off(name, num_layers)]
        infos = {**over.infos, **{name: under.infos[name] for name in added}}
        self.infos = {name: infos[name] for name in (*(name for name in order if name in infos), *infos)}

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """Each from `over` where it has it, else from `under`."""
        own = [name for name in names if name in self.over.infos]
        rest = [name for name in names if name not in self.over.infos]
        tensors = {**(self.over.read(own) if own else {}), **(self.under.read(rest) if rest else {})}
        return {name: tensors[name] for name in names}


class BaseWeights:
    """What a checkpoint left to its base, in the dtypes that the run used.

    Raises UserError when the base is fresh weights, which are in no folder, or lacks some.
    """

    def __init__(self, base: FrozenBase) -> None:
        if not base.folder:
            message = "they are fresh ones, which an older version did not save"
            problem = Problem(message=message, hint="go on with the run; its next checkpoint holds them")
            raise UserError("the checkpoint lacks its frozen weights; nothing was started", [problem])
        folder = Path(base.folder)
        self._source: StoredWeights = DcpWeights(folder, "live") if base.dcp else SafetensorsWeights(folder)
        stored = self._source.infos
        self.infos: dict[str, TensorInfo] = {}
        if base.tensors is None:
            names = [name for name in stored if not name.endswith((A, B)) and not is_cut_off(name, base.num_layers)]
            self.infos = {name: stored[name] for name in names}
        elif missing := [name for name in base.lacking if name not in stored]:
            problem = Problem(message=f"lacks {by_layer(missing)}", file=str(folder))
            raise UserError("the base lacks what the checkpoint left to it", [problem])
        else:
            self.infos = {name: TensorInfo(stored[name].shape, dtype(kind)) for name, kind in base.lacking.items()}

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """From the base."""
        return {name: value.to(self.infos[name].dtype) for name, value in self._source.read(names).items()}


def whole_weights(checkpoint: Path, kind: str, base: FrozenBase | None = None) -> StoredWeights:
    """The tensors of an ``iter_<N>`` folder or a base, and those that it left to its base.

    kind: as in DcpWeights. base: instead of the checkpoint's own record. Raises UserError when the base is missing or
    changed.
    """
    stored, base = DcpWeights(checkpoint / "model", kind), base or FrozenBase.read(checkpoint)
    if base is None or not base.left_out:
        return stored
    base.check(checkpoint)
    return OverlaidWeights(stored, BaseWeights(base), order=base.tensors or ())


def trained_weights(checkpoint: Path, kind: str, scale: float | None = None) -> StoredWeights:
    """The whole weights of an ``iter_<N>`` folder or a base, with adapters merged.

    kind: as in DcpWeights. scale: factor of adapters that are stored with whole weights, where the checkpoint does not
    record it. Raises UserError when adapters are all zero, a base is missing or changed, or the scale is unknown.
    """
    base = FrozenBase.read(checkpoint)
    if base is not None and base.scale is not None:
        _check_nonzero_adapters(DcpWeights(checkpoint / "model", kind))
        scale = base.scale
    whole = whole_weights(checkpoint, kind)
    if not any(name.endswith(A) for name in whole.infos):
        return whole
    if scale is None:
        problem = Problem(message="no run's config.toml says their rank and alpha", file=str(checkpoint))
        raise UserError("the checkpoint holds adapters beside whole weights; nothing was exported", [problem])
    return MergedWeights(whole, whole, scale)


def base_of_adapters(checkpoint: Path, weights: StoredWeights) -> FrozenBase:
    """The base that adapters alone belong to. weights: of the checkpoint, as stored.

    Raises UserError when there are other weights or no adapters, when the base was cut or is fresh weights, or when no
    adapter was trained.
    """
    base = FrozenBase.read(checkpoint)
    if base is None or base.rank is None:
        beside = any(name.endswith(A) for name in weights.infos)
        content = "adapters trained together with other weights" if beside else "whole weights and no adapters"
        raise UserError(f"{checkpoint} holds {content}; leave out --adapter")
    if not base.folder:
        message = "the adapters were trained on fresh weights, so there is no base to load them onto"
        raise UserError(f"{message}; leave out --adapter")
    if base.num_layers is not None:  # On the whole base the adapters would compute something else.
        message = f"is {base.num_layers}, and adapters alone are loaded onto the whole base"
        problem = Problem(message=message, key="model.num_layers", hint="leave out --adapter")
        raise UserError("the adapters were trained on a part of their base; nothing was exported", [problem])
    _check_nonzero_adapters(weights)
    return base


def _check_nonzero_adapters(adapters: StoredWeights) -> None:
    """Raises UserError when no adapter was changed by training."""
    names = [name for name in adapters.infos if name.endswith(B)]
    if not any(bool(value.any()) for name in names for value in adapters.read([name]).values()):
        raise UserError("the adapters are all zero, so there is nothing to export; did the run train long enough?")
