"""Whole packs through cuDNN's kernel for ragged tensors, beside the formula in float64.

Run it where there is an H100 or newer: ``python -m pytest tests/gpu``.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from cosmos_core.attention import PackedSequences, packed_attention
from cosmos_core.attention.kernels import has_ragged_attention
from cosmos_core.attention.ragged import has_cudnn_frontend
from tests.unit.attention.test_kernels import alone

DEVICE = torch.device("cuda", 0)
HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HOPPER, reason="no H100 or newer here"),
    pytest.mark.skipif(not has_cudnn_frontend(), reason="cosmos-core[cudnn] is not installed"),
]
BOUND = {torch.bfloat16: 6e-3, torch.float16: 1e-3}
PACKS = [
    ((300, 5, 77, 1), (420, 9, 777, 3)),
    ((129,), (257,)),
    ((64, 1000, 3), (64, 1000, 3)),
    ((7, 0, 9), (7, 0, 9)),
    ((100,) * 9, tuple(range(130, 139))),
]


@pytest.mark.parametrize("heads", [(8, 2, 128), (4, 4, 64), (16, 8, 80), (16, 16, 72), (3, 1, 128)], ids=str)
@pytest.mark.parametrize("dtype", BOUND, ids=str)
def test_outputs_and_gradients_are_those_of_the_formula(dtype: torch.dtype, heads: tuple[int, int, int]) -> None:
    for queries, keys in PACKS:
        own, others = (PackedSequences(lengths, DEVICE) for lengths in (queries, keys))
        causal = queries == keys
        attend = partial(packed_attention, sequences=own, keys=None if causal else others, causal=causal)
        shapes = (sum(queries), heads[0]), (sum(keys), heads[1]), (sum(keys), heads[1])
        pack = [torch.randn(*shape, heads[2], device=DEVICE, dtype=dtype, requires_grad=True) for shape in shapes]
        assert has_ragged_attention(*pack[:2])
        weights = torch.randn_like(pack[0])
        exact = [x.detach().double().requires_grad_() for x in pack]
        with DEVICE:
            formula = alone(own, others, causal=causal)(*exact)
        expected = [formula, *torch.autograd.grad(formula, exact, weights.double())]
        for out in (attend(*pack), checkpoint(attend, *pack, use_reentrant=False)):
            for ours, theirs in zip([out, *torch.autograd.grad(out, pack, weights)], expected, strict=True):
                assert (ours.double() - theirs).norm() <= BOUND[dtype] * theirs.norm()
