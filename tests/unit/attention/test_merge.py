"""Attention over some keys at a time, merged, is attention over all of them."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.attention import attention_with_lse, merge_attentions
from tests.unit.attention.plain import attention_formula, with_gradients


@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(1, 20),
    keys=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    heads=st.sampled_from([(2, 2), (4, 2), (3, 1)]),
    scale=st.sampled_from([0.1, 1.0, 8.0]),
)
def test_merged_attentions_are_the_formula_over_all_keys(
    queries: int, keys: tuple[int, int], heads: tuple[int, int], scale: float
) -> None:
    generator = torch.Generator().manual_seed(queries + 31 * keys[0] + 7 * keys[1])
    sizes = ((queries, heads[0]), (sum(keys), heads[1]), (sum(keys), heads[1]))
    q, k, v = (torch.randn(*size, 8, generator=generator) for size in sizes)
    q = scale * q

    def merged(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        first, second = zip(k.split(keys), v.split(keys), strict=True)
        return merge_attentions(attention_with_lse(q, *first), attention_with_lse(q, *second))

    found, expected = with_gradients(merged, q, k, v), with_gradients(attention_formula, q, k, v)
    assert len(found) == len(expected) == 4
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_log_sum_exp_of_parts_adds_up_to_that_of_the_whole() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(9, 4, 16), torch.randn(14, 2, 16), torch.randn(14, 2, 16)
    whole, lse = attention_with_lse(q, k, v)
    (_, first), (_, second) = attention_with_lse(q, k[:5], v[:5]), attention_with_lse(q, k[5:], v[5:])
    torch.testing.assert_close(torch.logaddexp(first, second), lse)
    torch.testing.assert_close(whole, attention_formula(q, k, v))
    assert lse.shape == (9, 4)
    assert lse.dtype == torch.float32


def test_results_keep_the_dtype_of_the_inputs() -> None:
    q, k, v = (torch.randn(6, 2, 8).to(torch.bfloat16) for _ in range(3))
    part = attention_with_lse(q, k, v)
    assert merge_attentions(part, part).dtype == torch.bfloat16
    assert part[1].dtype == torch.float32
