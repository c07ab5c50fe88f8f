"""Kinds of GPUs that a plan knows: memory, and what they were measured to reach."""

from __future__ import annotations

import re

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean

__all__ = ["GPUS", "Gpu", "Machine", "gpu_of", "machine_of", "memory_of"]


@frozen(kw_only=True)
class Gpu:
    """memory: GiB that the driver offers. tflops: dense bfloat16 peak. bandwidth: of memory, bytes a second.

    mark: in the driver's name of the device.
    """

    memory: float
    tflops: float
    bandwidth: float
    mark: str


GPUS = {
    "H100-80GB": Gpu(memory=79.2, tflops=989, bandwidth=3.0e12, mark="H100"),
    "H200-141GB": Gpu(memory=139.8, tflops=989, bandwidth=4.3e12, mark="H200"),
    "B200-180GB": Gpu(memory=178.3, tflops=2250, bandwidth=7.0e12, mark="B200"),
    "A100-80GB": Gpu(memory=79.1, tflops=312, bandwidth=1.8e12, mark="A100"),
    "A100-40GB": Gpu(memory=39.4, tflops=312, bandwidth=1.4e12, mark="A100"),
    "L40S-48GB": Gpu(memory=44.4, tflops=362, bandwidth=0.8e12, mark="L40S"),
    "RTX6000Ada-48GB": Gpu(memory=47.4, tflops=364, bandwidth=0.9e12, mark="RTX 6000 Ada"),
    "RTX5090-32GB": Gpu(memory=31.4, tflops=210, bandwidth=1.6e12, mark="RTX 5090"),
    "RTX4090-24GB": Gpu(memory=23.5, tflops=165, bandwidth=0.95e12, mark="RTX 4090"),
    "L4-24GB": Gpu(memory=22.0, tflops=121, bandwidth=0.28e12, mark="L4"),
}
"""H100 and H200 are measured (tests/benchmarks/RESULTS.md), the others are from data sheets."""

_COUNTED = re.compile(r"(?:(\d+)\s*x\s*)?(.+)", re.IGNORECASE)
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(GB|GiB)?", re.IGNORECASE)
GIB_OF_GB = 1e9 / 2**30


@frozen
class Machine:
    """count GPUs of one kind. gpu: None where only the memory, in GiB, is known."""

    name: str
    count: int
    memory: float
    gpu: Gpu | None = None


def machine_of(text: str) -> Machine:
    """From `8xH100-80GB` or `H100`. Raises UserError for unknown kinds."""
    match = _COUNTED.fullmatch(text.strip())
    count, name = (int(match[1] or 1), match[2]) if match is not None else (1, text)
    for known, gpu in GPUS.items():
        if name.lower() in (known.lower(), known.partition("-")[0].lower()) and count > 0:
            return Machine(known, count, gpu.memory, gpu)
    names = [*GPUS, *(known.partition("-")[0] for known in GPUS)]
    hint = did_you_mean(name.upper(), names) or f"known are {', '.join(GPUS)}; for another: --memory 24GB"
    message = f"'{text}' is no known kind of GPU" if count else f"'{text}' has no GPU"
    raise UserError("nothing was planned", [Problem(message=message, key="--gpus", hint=hint)])


def memory_of(text: str) -> Machine:
    """One GPU of so much memory, from `24GB` or `22.3GiB`. Raises UserError."""
    match = _MEMORY.fullmatch(text.strip())
    if match is None or not float(match[1]):
        problem = Problem(message=f"'{text}' is no amount of memory", key="--memory", hint="write it like 24GB")
        raise UserError("nothing was planned", [problem])
    gib = float(match[1]) * (1.0 if (match[2] or "GB").lower() == "gib" else GIB_OF_GB)
    return Machine(text, 1, gib)


def gpu_of(device_name: str) -> Gpu | None:
    """The kind of a device with this driver's name; None where it is not known. Memory may be that of another size."""
    words = f" {device_name.replace('-', ' ')} "
    return next((gpu for gpu in GPUS.values() if f" {gpu.mark} " in words), None)
