"""The base weights of an adapter checkpoint: where they are, and a digest to check that they are unchanged."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import attrs
from attrs import field, frozen
from attrs.validators import ge, instance_of, optional

from cosmos_core.errors import Problem, UserError
from cosmos_core.formats import check_format
from cosmos_core.plan.paths import ADAPTER_BASE
from cosmos_core.strict_json import read_object

__all__ = ["AdapterBase", "fingerprint"]

ADAPTER_FORMAT = 1

_SAMPLES = 16
_SAMPLE_BYTES = 1 << 16
_FILES = ("*.distcp", ".metadata", "*.safetensors")


@frozen
class AdapterBase:
    """folder: the base's weights; a DCP directory when `dcp`, else the backbone files that the family loads itself.

    digest: `fingerprint` of the folder; empty when the base is fresh weights drawn from `seed`. num_layers: how many of
    the base's layers were used; None for all.
    """

    folder: str = field(validator=instance_of(str))
    digest: str = field(validator=instance_of(str))
    dcp: bool = field(validator=instance_of(bool))
    rank: int = field(validator=[instance_of(int), ge(1)])
    alpha: int = field(validator=[instance_of(int), ge(1)])
    seed: int | None = field(default=None, validator=optional(instance_of(int)))
    num_layers: int | None = field(default=None, validator=optional([instance_of(int), ge(1)]))

    @property
    def scale(self) -> float:
        """Factor of the adapter's output."""
        return self.alpha / self.rank

    def write(self, folder: Path) -> None:
        """Write the record into a checkpoint's folder."""
        record = {"format": ADAPTER_FORMAT, **attrs.asdict(self)}
        if self.num_layers is None:  # Versions before there was such a key refuse those they do not know.
            del record["num_layers"]
        (folder / ADAPTER_BASE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, checkpoint: Path) -> AdapterBase | None:
        """The record of a checkpoint; None when it holds whole weights. Raises UserError when it cannot be read."""
        path = checkpoint / ADAPTER_BASE
        if not path.is_file():
            return None
        record = read_object(path, "the record of an adapter's base is damaged; nothing was started")
        check_format(record, path, ADAPTER_FORMAT)
        try:
            return cls(**{name: value for name, value in record.items() if name != "format"})
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is damaged: {error}") from None

    def check(self, checkpoint: Path, seed: int | None = None) -> None:
        """Raises UserError when the base is missing or is not the one that the adapters were trained on.

        seed: of the run that continues; None when no fresh weights will be drawn.
        """
        if self.seed is not None and seed is not None and seed != self.seed:
            message = f"is {seed}; the adapters were trained on the fresh weights of seed {self.seed}"
            problem = Problem(message=message, key="trainer.seed", hint=f"set trainer.seed={self.seed}")
            raise UserError("the adapters' base would differ; nothing was started", [problem])
        if not self.digest:
            return
        folder, record = Path(self.folder), str(checkpoint / ADAPTER_BASE)
        if not folder.is_dir():
            problem = Problem(
                message=f"no such folder: {folder}", file=record, hint="put the base back, or edit its path"
            )
            raise UserError("the adapters' base is missing; nothing was started", [problem])
        if fingerprint(folder) != self.digest:
            problem = Problem(message=f"{folder} holds other weights than the adapters were trained on", file=record)
            raise UserError("the adapters' base has changed; nothing was started", [problem])

    def check_whole(self) -> None:
        """Raises UserError when the base was cut: on the whole one the adapters would compute something else."""
        if self.num_layers is not None:
            message = f"is {self.num_layers}, and adapters alone are loaded onto the whole base"
            problem = Problem(message=message, key="model.num_layers", hint="leave out --adapter")
            raise UserError("the adapters were trained on a part of their base; nothing was exported", [problem])


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
