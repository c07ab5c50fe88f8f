"""NATTEN beside the formula of attention, for `cosmos doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import torch

from cosmos_core.doctor import Check, DoctorOptions, Result
from cosmos_core.doctor.compare import attention_formula, compare
from cosmos_vfm.network.three_way import natten_attention, uses_natten

__all__ = ["check_natten", "checks"]

QUERIES, TEXT, HEADS, KV_HEADS, DIM = 300, 77, 4, 2, 128


def checks(options: DoctorOptions) -> Iterable[Check]:
    """One check, of the kernel that the backend three_way uses."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield Check("three_way", partial(check_natten, device), 120.0)


def check_natten(device: torch.device) -> Result:
    """Latents over latents and text, forward and backward."""
    if find_spec("natten") is None:
        return Result(status="skipped", message="not installed (optional)")
    name = f"NATTEN {version('natten')}"
    if device.type != "cuda":
        return Result(status="skipped", message=f"{name} is used on GPUs only")
    if not uses_natten(device):
        text = f"{name} was built without its kernels: FlexAttention runs instead"
        return Result(status="note", message=text, hint="`pip install --no-build-isolation natten` builds them")
    generator = torch.Generator().manual_seed(0)
    shapes = [(QUERIES, HEADS), *[(QUERIES, KV_HEADS)] * 2, *[(TEXT, KV_HEADS)] * 2]
    inputs = [torch.randn(*shape, DIM, generator=generator).to(device, torch.bfloat16) for shape in shapes]
    hint = "uninstall natten: FlexAttention runs instead; or set model.joint_attn_implementation to two_way"
    return compare(_kernel, _formula, inputs).result(f"{name}, bfloat16", hint)


def _kernel(q: torch.Tensor, *kv: torch.Tensor) -> torch.Tensor:
    return natten_attention(q, (kv[2], kv[3]), (kv[0], kv[1]))


def _formula(q: torch.Tensor, *kv: torch.Tensor) -> torch.Tensor:
    return attention_formula(q, torch.cat([kv[0], kv[2]]), torch.cat([kv[1], kv[3]]))
