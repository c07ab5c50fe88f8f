"""Every kernel that the CPU has gives what the formula gives, in float32 and with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.attention import (
    PackedSequences,
    SequenceMask,
    dense_attention,
    describe_kernels,
    kernels,
    packed_attention,
)
from tests.unit.attention.plain import attention_formula, each_sequence, with_gradients

HEADS = st.sampled_from([(2, 2), (4, 2), (3, 1)])
SIZES = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=5)
"""Queries and keys of each sequence."""
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=7)


def inputs(queries: int, keys: int, heads: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(queries + 7 * keys)
    shapes = ((queries, heads[0]), (keys, heads[1]), (keys, heads[1]))
    return [torch.randn(*shape, 8, generator=generator) for shape in shapes]


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(found) == len(expected) == 4
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def alone(queries: PackedSequences, keys: PackedSequences, *, causal: bool = False) -> Callable[..., torch.Tensor]:
    """The formula for each sequence."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        parts = zip(queries.split(q), keys.split(k), keys.split(v), strict=True)
        return torch.cat([attention_formula(*part, causal=causal) for part in parts])

    return attend


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, heads=HEADS, causal=st.booleans())
def test_packed_attention_is_the_formula_of_each_sequence_alone(
    lengths: list[int], heads: tuple[int, int], causal: bool
) -> None:
    pack, sequences = inputs(sum(lengths), sum(lengths), heads), PackedSequences(tuple(lengths))
    found = with_gradients(lambda q, k, v: packed_attention(q, k, v, sequences, causal=causal), *pack)
    assert_close(found, with_gradients(lambda q, k, v: each_sequence(q, k, v, lengths, causal=causal), *pack))


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, heads=HEADS)
def test_dense_attention_of_padded_sequences_under_their_mask_is_the_formula(
    lengths: list[int], heads: tuple[int, int]
) -> None:
    pack, sequences = inputs(sum(lengths), sum(lengths), heads), PackedSequences(tuple(lengths))
    mask = sequences.padding_mask[:, None, None]

    def padded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (sequences.pad(x) for x in (q, k, v))
        return sequences.unpad(dense_attention(q, k, v, attn_mask=mask))

    found = with_gradients(padded, *pack)
    assert_close(found, with_gradients(lambda q, k, v: each_sequence(q, k, v, lengths, causal=False), *pack))


@pytest.mark.parametrize("short", [512, 0], ids=["one batch", "one by one"])
@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, heads=HEADS)
def test_attention_to_keys_that_divide_in_another_way_is_the_formula_of_each_sequence_alone(
    short: int, sizes: list[tuple[int, int]], heads: tuple[int, int]
) -> None:
    queries, keys = (PackedSequences(lengths) for lengths in zip(*sizes, strict=True))
    pack = inputs(sum(queries.lengths), sum(keys.lengths), heads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_SHORT", short)
        found = with_gradients(lambda q, k, v: packed_attention(q, k, v, queries, keys=keys, causal=False), *pack)
    assert_close(found, with_gradients(alone(queries, keys), *pack))


def test_what_a_sequence_gives_a_kernel_does_not_depend_on_the_rest_of_its_pack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cuDNN plans for sizes and strides, those of a dimension of one too, and a plan takes longer than a layer."""
    attend, given_to_it = kernels.scaled_dot_product_attention, []

    def noted(*tensors: torch.Tensor, **options: bool) -> torch.Tensor:
        given_to_it.append([(x.shape, x.stride()) for x in tensors])
        return attend(*tensors, **options)

    monkeypatch.setattr(kernels, "scaled_dot_product_attention", noted)
    monkeypatch.setattr(kernels, "_SHORT", 0)
    for others in ((9,), (3, 30)):
        queries, keys = (PackedSequences((length, *others)) for length in (5, 7))
        packed_attention(*inputs(sum(queries.lengths), sum(keys.lengths), (4, 2)), queries, keys=keys, causal=False)
        assert given_to_it[0] == [((1, 4, 5, 8), (32, 8, 32, 1)), *[((1, 2, 7, 8), (16, 8, 16, 1))] * 2]
        given_to_it.clear()


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, heads=HEADS)
def test_under_a_sequence_mask_queries_see_the_keys_of_their_own_sequence(
    sizes: list[tuple[int, int]], heads: tuple[int, int]
) -> None:
    queries, keys = (PackedSequences(lengths) for lengths in zip(*sizes, strict=True))
    mask = SequenceMask(queries.sequence_ids, keys.sequence_ids)
    whole = inputs(sum(queries.lengths), sum(keys.lengths), heads)
    assert_close(with_gradients(mask.attend, *whole), with_gradients(alone(queries, keys), *whole))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_evaluates_a_sequence_mask_as_the_dense_kernel_does() -> None:
    queries, keys = PackedSequences((30, 5, 200)).sequence_ids, PackedSequences((9, 140, 60)).sequence_ids
    q, k, v = (torch.randn(len(x), heads, 16) for x, heads in ((queries, 4), (keys, 2), (keys, 2)))
    dense, flex = (SequenceMask(queries, keys, flex=flex).attend(q, k, v) for flex in (False, True))
    torch.testing.assert_close(flex, dense, rtol=1e-5, atol=1e-6)


def test_no_sequence_sees_another() -> None:
    sequences = PackedSequences((7, 12, 7))
    q, k, v = inputs(26, 26, (2, 2))
    before = packed_attention(q, k, v, sequences, causal=False)
    k[7:19] += 1
    v[7:19] += 1
    changed = (packed_attention(q, k, v, sequences, causal=False) != before).flatten(1).any(1)
    assert changed.nonzero().flatten().tolist() == list(range(7, 19))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cpu_has_no_kernel_for_unequal_lengths_and_a_run_says_what_it_uses(dtype: torch.dtype) -> None:
    assert not kernels.has_varlen_attention(torch.zeros(4, 2, 64, dtype=dtype))
    assert describe_kernels(torch.device("cpu")) == "torch's kernel for the CPU"


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kernels in the order of their use; each that knows where sequences begin is there if `has_` is made to say so."""
    names: list[str] = []

    @contextmanager
    def fastest(device: torch.device, *, shapes_recur: bool) -> Iterator[None]:
        names.append("planned" if shapes_recur else "flash")
        yield

    for name in ("varlen", "ragged"):

        def attend(q: torch.Tensor, *rest: object, causal: bool, name: str = name) -> torch.Tensor:
            names.append(name)
            return q

        monkeypatch.setattr(kernels, f"{name}_attention", attend)
    monkeypatch.setattr(kernels, "_fastest_kernel", fastest)
    return names


@pytest.mark.parametrize("varlen", [True, False])
@pytest.mark.parametrize("cudnn", [True, False])
def test_kernels_that_plan_for_a_shape_are_for_those_that_come_again_or_take_as_long_as_the_plan(
    used: list[str], varlen: bool, cudnn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without cuDNN, as on Ampere or in deterministic runs, no kernel is the better for long sequences."""
    monkeypatch.setattr(kernels, "has_varlen_attention", lambda q: varlen)
    monkeypatch.setattr(kernels, "_prefers_cudnn", lambda device: cudnn)
    monkeypatch.setattr(kernels, "_LONG", 64)
    others = "varlen" if varlen else "flash"
    long = "planned" if cudnn else others
    for lengths, expected in (((5, 5), "planned"), ((7,), others), ((3, 7), others), ((2, 8), long)):
        packed_attention(*inputs(sum(lengths), sum(lengths), (2, 2)), PackedSequences(lengths), causal=True)
        assert used[-1] == expected, lengths
    keys = PackedSequences((6, 5))
    packed_attention(*inputs(10, 11, (2, 2)), PackedSequences((5, 5)), keys=keys, causal=False)
    assert used[-1] == others
    dense_attention(*torch.zeros(3, 1, 2, 4, 8))
    assert used[-1] == "planned"


def test_causal_attention_to_keys_that_divide_in_another_way_is_refused() -> None:
    keys = PackedSequences((3, 4))
    with pytest.raises(ValueError, match="divide as the queries do"):
        packed_attention(*inputs(5, 7, (2, 2)), PackedSequences((2, 3)), keys=keys, causal=True)


def test_where_cudnn_takes_whole_packs_it_takes_all_of_them(used: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "has_varlen_attention", lambda q: True)
    monkeypatch.setattr(kernels, "has_ragged_attention", lambda q, k: True)
    for lengths in ((5, 5), (10,), (4, 6)):
        packed_attention(*inputs(10, 10, (2, 2)), PackedSequences(lengths), causal=True)
    assert used == ["ragged"] * 3
