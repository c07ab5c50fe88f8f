"""A kernel that is wrong somewhere, forward or backward, is found; test_command.py runs those of this machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cosmos_core.attention import PackedSequences, packed_attention
from cosmos_core.doctor.attention import Case, Kernel, check_kernel

CPU = torch.device("cpu")
Tensor = torch.Tensor


def right(q: Tensor, k: Tensor, v: Tensor, *, case: Case) -> Tensor:
    return packed_attention(q, k, v, PackedSequences(case.lengths), causal=case.causal)


def one_wrong_row(q: Tensor, k: Tensor, v: Tensor, *, case: Case) -> Tensor:
    out = right(q, k, v, case=case)
    return torch.cat([out[:-1], out[:1]])


def forgets_causality(q: Tensor, k: Tensor, v: Tensor, *, case: Case) -> Tensor:
    return packed_attention(q, k, v, PackedSequences(case.lengths), causal=False)


def sequences_see_each_other(q: Tensor, k: Tensor, v: Tensor, *, case: Case) -> Tensor:
    return packed_attention(q, k, v, PackedSequences((sum(case.lengths),)), causal=case.causal)


def wrong_gradient_of_values(q: Tensor, k: Tensor, v: Tensor, *, case: Case) -> Tensor:
    return right(q, k, v.detach() + 0.5 * (v - v.detach()), case=case)


def not_a_number(q: Tensor, k: Tensor, v: Tensor, *, case: Case) -> Tensor:
    return right(q, k, v, case=case).index_fill(0, torch.tensor([3]), torch.nan)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "attend",
    [one_wrong_row, forgets_causality, sequences_see_each_other, wrong_gradient_of_values, not_a_number],
)
def test_a_wrong_kernel_is_found(attend: Callable[..., Tensor], dtype: torch.dtype) -> None:
    result = check_kernel(Kernel("planted", attend, (20, 30)), CPU, dtype)
    assert result.status == "broken"
    assert result.hint.startswith("wrong in: ")


def test_the_case_that_is_wrong_is_named() -> None:
    assert "wrong in: causal" in check_kernel(Kernel("planted", forgets_causality, (20, 30)), CPU, torch.float32).hint


def test_a_kernel_that_torch_does_not_have_is_left_out() -> None:
    def missing(*inputs: Tensor, case: Case) -> Tensor:
        raise RuntimeError("No available kernel. Aborting execution.")

    assert check_kernel(Kernel("absent", missing, (9,)), CPU, torch.float32).status == "skipped"
