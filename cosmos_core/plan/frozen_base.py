"""The base that a checkpoint leaves its frozen weights to: where it is, and a digest to check that it is unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import attrs
from attrs import evolve, field, frozen
from attrs.validators import deep_mapping, ge, in_, instance_of, optional

from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.formats import check_format
from cosmos_core.plan.checkpoint import complete_ones
from cosmos_core.plan.paths import ADAPTER_BASE, FROZEN_BASE, MODEL
from cosmos_core.strict_json import read_object

__all__ = ["FrozenBase", "fingerprint"]

BASE_FORMAT = 1
DTYPES = ("float64", "float32", "bfloat16", "float16")
"""Of tensors that may be left to a base; others are saved."""

_SAMPLES = 16
_SAMPLE_BYTES = 1 << 16
_FILES = ("*.distcp", ".metadata", "*.safetensors")


@frozen
class FrozenBase:
    """The record ``frozen_base.json``; ``adapter_base.json`` of older versions, which has no `tensors`, is read too.

    folder: the base's weights; a DCP directory when `dcp`, else the backbone files that the family loads itself.
    digest: `fingerprint` of the folder; empty when the base is fresh weights drawn from `seed`. rank, alpha: of a run
    that trains adapters alone. num_layers: how many of the base's layers were used; None for all.

    tensors: all of the network in its order, without ``net.``; the dtype of those that are in the base, None of the
    others. None: all that are no adapters are in the base. left_out: whether the checkpoint lacks those of the base.
    """

    folder: str = field(validator=instance_of(str))
    digest: str = field(validator=instance_of(str))
    dcp: bool = field(validator=instance_of(bool))
    rank: int | None = field(default=None, validator=optional([instance_of(int), ge(1)]))
    alpha: int | None = field(default=None, validator=optional([instance_of(int), ge(1)]))
    seed: int | None = field(default=None, validator=optional(instance_of(int)))
    num_layers: int | None = field(default=None, validator=optional([instance_of(int), ge(1)]))
    tensors: Mapping[str, str | None] | None = field(
        default=None, validator=optional(deep_mapping(instance_of(str), optional(in_(DTYPES)), instance_of(dict)))
    )
    left_out: bool = field(default=True, validator=instance_of(bool))

    def __attrs_post_init__(self) -> None:
        if (self.rank is None) != (self.alpha is None):
            raise ValueError("it has one of rank and alpha without the other")

    @property
    def scale(self) -> float | None:
        """Factor of the adapters' output; None of a run that trains more than adapters."""
        return self.alpha / self.rank if self.alpha is not None and self.rank is not None else None

    @property
    def lacking(self) -> dict[str, str]:
        """Dtype of each tensor that the checkpoint left to the base, by name; none where `tensors` is None."""
        tensors = self.tensors if self.left_out and self.tensors is not None else {}
        return {name: dtype for name, dtype in tensors.items() if dtype is not None}

    def write(self, folder: Path) -> None:
        """Write the record into a checkpoint's folder."""
        record = {"format": BASE_FORMAT, **attrs.asdict(self)}
        (folder / FROZEN_BASE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, checkpoint: Path) -> FrozenBase | None:
        """The record of a checkpoint; None when it has none. Raises UserError when it cannot be read."""
        path = _file(checkpoint)
        if not path.is_file():
            return None
        record = read_object(path, "the record of a checkpoint's base is damaged; nothing was started")
        check_format(record, path, BASE_FORMAT)
        try:
            return cls(**{name: value for name, value in record.items() if name != "format"})
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is damaged: {error!s:.200}") from None

    def fault(self) -> str | None:
        """What is wrong with the base: missing or changed; None when it is as it was. Reads a few MB of each file."""
        if not self.digest:
            return None
        folder = Path(self.folder)
        if not folder.is_dir():
            return f"no such folder: {folder}"
        try:
            same = fingerprint(folder) == self.digest
        except OSError as error:
            return f"{folder} cannot be read: {first_line(error)}"
        return None if same else f"{folder} holds other weights than the run was trained on"

    def moved(self, folder: Path) -> FrozenBase:
        """As it lies in an existing folder, in ``model/`` below it, or in the checkpoint of a run that is the same."""
        checkpoints = (*complete_ones(folder / "checkpoints"), *complete_ones(folder)) if self.dcp else ()
        places = [*(path / MODEL for path in checkpoints), folder / MODEL if self.dcp else folder, folder]
        moved = [evolve(self, folder=str(place.resolve())) for place in places if place.is_dir()]
        return next((place for place in moved if place.fault() is None), moved[0])

    def found(self, places: Iterable[Path]) -> FrozenBase:
        """Itself, or the first of `places` that holds the same; those are asked for only when its folder is gone."""
        if not self.digest or Path(self.folder).is_dir():
            return self
        moved = (self.moved(place) for place in places if place.is_dir())
        return next((base for base in moved if base.fault() is None), self)

    def check(self, checkpoint: Path, seed: int | None = None) -> None:
        """Raises UserError when the base is missing or is not the one that the checkpoint was trained on.

        seed: of the run that continues; None when no fresh weights will be drawn.
        """
        if self.seed is not None and seed is not None and seed != self.seed:
            message = f"is {seed}; the frozen weights are the fresh ones of seed {self.seed}"
            problem = Problem(message=message, key="trainer.seed", hint=f"set trainer.seed={self.seed}")
            raise UserError("the checkpoint's base would differ; nothing was started", [problem])
        fault = self.fault()
        if fault is None:
            return
        path = _file(checkpoint)
        resumed = ", or resume with checkpoint.load_path=DIR" if self.dcp else ""
        hint = (
            f'put it back, or write where it is now into {path.name} as "folder"{resumed}; '
            f"`cosmos checkpoints pack {checkpoint} --base DIR` makes the checkpoint whole"
        )
        state = "has changed" if Path(self.folder).is_dir() else "is missing"
        problem = Problem(message=fault, file=str(path), hint=hint)
        raise UserError(f"the checkpoint's base {state}; nothing was started", [problem])


def _file(checkpoint: Path) -> Path:
    """Where the record lies, or would lie."""
    older = checkpoint / ADAPTER_BASE
    return older if older.is_file() and not (checkpoint / FROZEN_BASE).is_file() else checkpoint / FROZEN_BASE


def fingerprint(folder: Path, *patterns: str) -> str:
    """Digest of a folder's weight files by name, size and samples spread over each; seconds at any size.

    patterns: globs of file names; weights in any format when absent.
    """
    digest = sha256()
    for path in sorted({path for pattern in patterns or _FILES for path in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}\n".encode())
        with path.open("rb") as file:
            for number in range(_SAMPLES):
                file.seek(number * max(0, size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
