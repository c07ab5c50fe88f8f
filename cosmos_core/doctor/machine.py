"""Python, torch, GPUs, memory, limits of the system, and compilation."""

from __future__ import annotations

import platform
import resource
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import torch

from cosmos_core.attention import faster_with
from cosmos_core.config.model import Compile
from cosmos_core.distributed.compile import compile_fn
from cosmos_core.doctor.check import Check, DoctorOptions, Result
from cosmos_core.errors import first_line
from cosmos_core.launch.bytecode import NO_BYTECODE, keeps_bytecode
from cosmos_core.launch.devices import visible_gpus

__all__ = ["check_open_files", "check_shared_memory", "checks"]

GIB = 2**30
PINNED = 256 * 2**20
"""Bytes."""
FEW_FILES = 4096
LITTLE_SHARED_MEMORY = 4 * GIB
SIDE = 1024
"""Of the matrices that a GPU multiplies."""
MATRIX_BOUND = 0.02
"""Relative error of a product in bfloat16."""


def checks(options: DoctorOptions) -> Iterator[Check]:
    """What this machine has, then what its GPUs and its compiler do."""
    yield Check("python", _python)
    yield Check("torch", _torch)
    for index in range(torch.cuda.device_count()):
        yield Check(f"GPU {index}", partial(_gpu, index))
    if torch.cuda.is_available():
        yield Check("pinned memory", _pinned)
    yield Check("host memory", _host_memory)
    yield Check("/dev/shm", check_shared_memory)
    yield Check("open files", check_open_files)
    if options.quick:
        yield Check("compile", partial(Result, status="skipped", message="left out by --quick"))
    else:
        yield Check("compile", _compile, 180.0)


def _python() -> Result:
    message = f"{platform.python_version()}, {platform.platform()}"
    if not keeps_bytecode():
        return Result(status="note", message=message, hint=NO_BYTECODE)
    return Result(status="ok", message=message)


def _torch() -> Result:
    if not torch.cuda.is_available():
        if visible_gpus():
            built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
            return Result(
                status="broken",
                message=f"{torch.__version__} cannot use the GPUs of this machine",
                hint=f"it was built {built}: install the build for this driver (`nvidia-smi`), or update the driver",
            )
        return Result(status="ok", message=f"{torch.__version__}, no GPU: training runs on the CPU")
    message = f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    hint = faster_with(torch.device("cuda", 0))
    return Result(status="note" if hint else "ok", message=message, hint=hint)


def _gpu(index: int) -> Result:
    device = torch.device("cuda", index)
    free, total = torch.cuda.mem_get_info(device)
    generator = torch.Generator().manual_seed(index)
    first, second = (torch.randn(SIDE, SIDE, generator=generator).bfloat16() for _ in range(2))
    expected = first.float() @ second.float()
    product = (first.to(device) @ second.to(device)).float().cpu()
    error = float((product - expected).norm() / expected.norm())
    text = f"{torch.cuda.get_device_name(device)}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
    data: dict[str, float | str] = {"free_gib": free / GIB, "total_gib": total / GIB, "matmul_error": str(error)}
    if not error <= MATRIX_BOUND:
        message = f"{text}; a product of matrices is off by {error:.2g}, at most {MATRIX_BOUND:g}"
        return Result(status="broken", message=message, hint="this GPU computes wrongly: leave it out", data=data)
    if free < total / 2:
        hint = "`nvidia-smi` shows which processes hold the memory"
        return Result(status="note", message=f"{text}; others use it", hint=hint, data=data)
    return Result(status="ok", message=f"{text}; multiplies matrices rightly", data=data)


def _pinned() -> Result:
    host = torch.arange(PINNED // 4, dtype=torch.float32).pin_memory()
    device = host.to("cuda")
    torch.cuda.synchronize()
    begin = time.perf_counter()
    device.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
    speed = PINNED / (time.perf_counter() - begin) / 1e9
    if not torch.equal(device.cpu(), host):
        return Result(status="broken", message="a copy to the GPU changed values", hint="test the GPU and its slot")
    data = {"gigabytes_per_second": speed}
    return Result(status="ok", message=f"{PINNED >> 20} MiB copied to GPU 0 at {speed:.1f} GB/s", data=data)


def _host_memory() -> Result:
    memory = psutil.virtual_memory()
    text = f"{memory.available / GIB:.0f} of {memory.total / GIB:.0f} GiB free, {psutil.cpu_count()} cores"
    return Result(status="ok", message=text, data={"free_gib": memory.available / GIB})


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Result:
    """Whether loader workers have room to hand over their samples."""
    if not folder.is_dir():
        return Result(status="note", message="does not exist", hint="loader workers may need it: use num_workers=0")
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.1f} GiB free"
    if free < LITTLE_SHARED_MEMORY:
        hint = "loader workers hand over samples there; start the container with --ipc=host or --shm-size=16g"
        return Result(status="note", message=f"{text}, little for loader workers", hint=hint)
    return Result(status="ok", message=text)


def check_open_files(fewest: int = FEW_FILES) -> Result:
    """Whether workers, shards and checkpoints may hold their files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    if soft != resource.RLIM_INFINITY and soft < fewest:
        hint = f"`ulimit -n {min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536}` before a run"
        return Result(status="note", message=f"{limit} a process, few for many loader workers", hint=hint)
    return Result(status="ok", message=f"{limit} a process")


def _compile() -> Result:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(3)).to(device)
    gradients = []
    for enabled in (False, True):
        leaf = x.clone().requires_grad_()
        function = compile_fn(lambda x: (torch.nn.functional.silu(x) * x).sum(), Compile(enabled=enabled))
        try:
            (gradient,) = torch.autograd.grad(function(leaf), leaf)
        except Exception as failure:
            text = f"{type(failure).__name__}: {first_line(failure)}"
            hint = "install a C++ compiler (g++); until then set model.compile.enabled=false"
            return Result(status="broken" if device == "cuda" else "note", message=text, hint=hint)
        gradients.append(gradient)
    error = float((gradients[1] - gradients[0]).abs().max())
    if not error <= 1e-4:
        hint = "set model.compile.enabled=false, or update torch"
        return Result(status="broken", message=f"compiled code is off by {error:.2g}", hint=hint)
    return Result(status="ok", message=f"a compiled function and its gradient are right, error {error:.1g}")
