"""Kinds of GPUs that a plan knows: memory, and what they were measured to reach."""

from __future__ import annotations

import math
import re

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean

__all__ = ["GPUS", "Gpu", "Machine", "gpu_of", "machine_of", "memory_of"]


@frozen(kw_only=True)
class Gpu:
    """memory: GiB that the driver offers. tflops: dense bfloat16 peak. bandwidth: of memory, bytes a second.

    mark: in the driver's name of the device. link: bytes a second from other GPUs, most and least; infinite where that
    is not known.
    """

    memory: float
    tflops: float
    bandwidth: float
    mark: str
    link: tuple[float, float] = (math.inf, math.inf)


NVLINK_4 = (450e9, 237e9)
"""One way, by the data sheet, and as `cosmos doctor` measured it between two."""


GPUS = {
    "H100-80GB": Gpu(memory=79.2, tflops=989, bandwidth=3.0e12, mark="H100", link=NVLINK_4),
    "H200-141GB": Gpu(memory=139.8, tflops=989, bandwidth=4.3e12, mark="H200", link=NVLINK_4),
    "B200-180GB": Gpu(memory=178.3, tflops=2250, bandwidth=7.0e12, mark="B200"),
    "A100-80GB": Gpu(memory=79.1, tflops=312, bandwidth=1.8e12, mark="A100"),
    "A100-40GB": Gpu(memory=39.4, tflops=312, bandwidth=1.4e12, mark="A100"),
    "L40S-48GB": Gpu(memory=44.4, tflops=362, bandwidth=0.8e12, mark="L40S"),
    "RTX6000Ada-48GB": Gpu(memory=47.4, tflops=364, bandwidth=0.9e12, mark="RTX 6000 Ada"),
    "RTXA6000-48GB": Gpu(memory=47.5, tflops=155, bandwidth=0.77e12, mark="RTX A6000"),
    "RTX5090-32GB": Gpu(memory=31.4, tflops=210, bandwidth=1.6e12, mark="RTX 5090"),
    "RTX4090-24GB": Gpu(memory=23.5, tflops=165, bandwidth=0.95e12, mark="RTX 4090"),
    "RTX3090-24GB": Gpu(memory=23.6, tflops=71, bandwidth=0.94e12, mark="RTX 3090"),
    "A10-24GB": Gpu(memory=22.1, tflops=125, bandwidth=0.6e12, mark="A10"),
    "L4-24GB": Gpu(memory=22.0, tflops=121, bandwidth=0.28e12, mark="L4"),
}
"""H100 and H200 are measured (tests/benchmarks/RESULTS.md), the others are from data sheets."""


def _kind(name: str) -> str:
    return name.partition("-")[0]


_BY_NAME = {_kind(name).lower(): name for name in reversed(GPUS)} | {name.lower(): name for name in GPUS}
"""Of one kind, the first in the table."""
_COUNTED = re.compile(r"(?:(-?\d+)\s*x\s*)?(.*)", re.IGNORECASE)
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(GB|GiB)", re.IGNORECASE)
MAX_GPUS = 100_000
"""GPUs of one run."""
GIB_OF_GB = 1e9 / 2**30


@frozen
class Machine:
    """count GPUs of one kind. gpu: None where only the memory, in GiB, is known. on_a_host: at most, of those."""

    name: str
    count: int
    memory: float
    gpu: Gpu | None = None
    on_a_host: int = 8


def machine_of(text: str) -> Machine:
    """From `8xH100-80GB` or `H100`. Raises UserError for unknown kinds, and for numbers of GPUs that no run has."""
    match = _COUNTED.fullmatch(text.strip())
    assert match is not None
    number, name = match[1] or "1", match[2]
    known = _BY_NAME.get(name.lower())
    count = int(number) if len(number) <= len(str(MAX_GPUS)) else MAX_GPUS + 1
    if known is not None and 0 < count <= MAX_GPUS:
        return Machine(known, count, GPUS[known].memory, GPUS[known])
    if known is not None:
        message, hint = f"'{text}' is no number of GPUs from 1 to {MAX_GPUS:,}", f"write it like 8x{name}"
    elif not name or name.isdecimal():
        message, hint = f"'{text}' names no kind of GPU", "write it like 8xH100-80GB"
    else:
        near = did_you_mean(name.upper(), [*GPUS, *map(_kind, GPUS)]) or f"known are {', '.join(GPUS)}"
        message, hint = f"'{text}' is no known kind of GPU", f"{near} (for another kind: --memory 24GB)"
    raise UserError("nothing was planned", [Problem(message=message, key="--gpus", hint=hint)])


def memory_of(text: str) -> Machine:
    """One GPU of so much memory, from `24GB` or `22.3GiB`. Raises UserError."""
    match = _MEMORY.fullmatch(text.strip())
    if match is None or not float(match[1]):
        bare = text.strip().isdecimal() and int(text)
        message = f"'{text}' has no unit" if bare else f"'{text}' is no amount of memory"
        hint = f"write {text.strip()}GB" if bare else "write it like 24GB"
        raise UserError("nothing was planned", [Problem(message=message, key="--memory", hint=hint)])
    return Machine(text, 1, float(match[1]) * (1.0 if match[2].lower() == "gib" else GIB_OF_GB))


def gpu_of(device_name: str) -> Gpu | None:
    """The kind of a device with this driver's name; None where it is not known. Memory may be that of another size."""
    words = f" {device_name.replace('-', ' ')} "
    return next((gpu for gpu in GPUS.values() if f" {gpu.mark} " in words), None)
