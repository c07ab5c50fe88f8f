"""Runs that repeat to the last bit (docs/training.md, Repeatability)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.backends import cuda, cudnn

from cosmos_core.config.env import fix_cublas_workspaces, has_cublas_workspaces
from cosmos_core.errors import Problem, UserError, first_line

__all__ = ["deterministic_kernels", "missing_kernel_explained"]

KEY = "trainer.deterministic"
NO_KERNEL = " does not have a deterministic implementation"
"""What torch says of an operator."""


@contextmanager
def deterministic_kernels(enabled: bool) -> Iterator[None]:
    """While inside, if `enabled`, every operator gives the same bits for the same input, or raises RuntimeError.

    To be entered before CUDA starts. torch's flags are afterwards what they were. Raises UserError when CUDA runs with
    other workspaces than cuBLAS needs.
    """
    if not enabled:
        yield
        return
    if torch.cuda.is_initialized() and not has_cublas_workspaces():
        hint = "start Python with CUBLAS_WORKSPACE_CONFIG=:4096:8, or train with `cosmos run`"
        problem = Problem(message="CUDA runs in this process already, without fixed workspaces", key=KEY, hint=hint)
        raise UserError("the run would not repeat; nothing was started", [problem])
    fix_cublas_workspaces()
    memory: Any = torch.utils.deterministic
    before = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    before_cuda = cudnn.deterministic, cudnn.benchmark, cuda.cudnn_sdp_enabled()
    # Strict: where it only warns, FlashAttention's backward pass stays as it is.
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # Nothing here is read before it is written; filling costs a pass each.
    cudnn.deterministic, cudnn.benchmark = True, False
    cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        memory.fill_uninitialized_memory = before[1]
        cudnn.deterministic, cudnn.benchmark = before_cuda[:2]
        cuda.enable_cudnn_sdp(before_cuda[2])


@contextmanager
def missing_kernel_explained() -> Iterator[None]:
    """Raises UserError that names the operator, in place of torch's error, where one cannot be deterministic."""
    try:
        yield
    except RuntimeError as error:
        operator, separator, _ = first_line(error).partition(NO_KERNEL)
        if not separator:
            raise
        hint = "set it to false, or use a model and settings without this operator"
        problem = Problem(message=f"'{operator}' has no deterministic kernel on this device", key=KEY, hint=hint)
        raise UserError("the run would not repeat", [problem]) from error
