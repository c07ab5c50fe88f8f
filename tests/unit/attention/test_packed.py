"""Packed sequences and their padded batches: nothing is lost, and padding stays small."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.attention import PackedSequences, PaddedBatches

LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=9)
BATCHES = ("one_batch", "buckets", "by_length")


def batches_of(sequences: PackedSequences, kind: str) -> PaddedBatches:
    return {
        "one_batch": sequences.one_batch,
        "buckets": sequences.buckets,
        "by_length": sequences.by_length,
    }[kind]


@settings(max_examples=80, deadline=None)
@given(lengths=LENGTHS, kind=st.sampled_from(BATCHES))
def test_padded_and_unpadded_tokens_and_their_gradients_are_the_same(lengths: list[int], kind: str) -> None:
    padded = batches_of(PackedSequences(tuple(lengths)), kind)
    x = torch.randn(sum(lengths), 2, 3, requires_grad=True)
    weights = torch.randn(sum(lengths), 2, 3)
    again = padded.unpad(padded.pad(x))
    assert torch.equal(again, x)
    (again * weights).sum().backward()
    assert torch.equal(x.grad, weights)  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(lengths=LENGTHS)
def test_one_batch_holds_each_sequence_in_its_row_and_zeros_behind_it(lengths: list[int]) -> None:
    sequences = PackedSequences(tuple(lengths))
    x = torch.randn(sum(lengths), 2, 3)
    batch, mask = sequences.pad(x), sequences.padding_mask
    assert batch.shape == (len(lengths), 2, max(lengths), 3)
    assert mask.sum(1).tolist() == lengths
    for row, real, part in zip(batch, mask, sequences.split(x), strict=True):
        assert torch.equal(row[:, real].transpose(0, 1), part)
        assert not row[:, ~real].any()
    assert torch.equal(sequences.unpad(batch), x)


@settings(max_examples=80, deadline=None)
@given(lengths=LENGTHS)
def test_index_tensors_say_where_each_sequence_lies(lengths: list[int]) -> None:
    sequences = PackedSequences(tuple(lengths))
    begins = sequences.cu_seqlens.tolist()
    assert sequences.cu_seqlens.dtype == torch.int32
    assert [end - begin for begin, end in pairwise(begins)] == lengths
    assert sequences.sequence_ids.bincount().tolist() == lengths
    assert torch.equal(sequences.sequence_ids, sequences.sequence_ids.sort().values)
    assert sequences.max_seqlen == max(lengths)
    assert sequences.uniform == (len(set(lengths)) == 1)


@pytest.mark.parametrize("kind", BATCHES)
def test_sequences_of_one_length_are_a_batch_without_a_copy(kind: str) -> None:
    padded = batches_of(PackedSequences((5, 5, 5)), kind)
    x = torch.randn(15, 2, 3)
    (batch,) = padded.pad(x)
    assert batch.shape == (3, 2, 5, 3)
    assert batch.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert padded.rows is None


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(33, 4096), min_size=1, max_size=60))
def test_buckets_are_few_and_padded_by_a_quarter_at_most(lengths: list[int]) -> None:
    sizes = PackedSequences(tuple(lengths)).buckets.sizes
    assert len(sizes) <= 32
    assert sum(count for count, _ in sizes) == len(lengths)
    assert sum(count * width for count, width in sizes) <= 1.25 * sum(lengths)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS)
def test_batches_by_length_have_no_padding(lengths: list[int]) -> None:
    sizes = PackedSequences(tuple(lengths)).by_length.sizes
    assert sorted(length for count, length in sizes for _ in range(count)) == sorted(lengths)


def test_index_tensors_are_on_the_device_that_the_sequences_were_moved_to() -> None:
    moved = PackedSequences((3, 1, 2)).to(torch.device("meta"))
    rows = moved.one_batch.rows
    assert rows is not None
    for tensor in (moved.cu_seqlens, moved.sequence_ids, moved.padding_mask, rows):
        assert tensor.device.type == "meta"


def test_sequences_pass_from_loader_workers() -> None:
    sequences = PackedSequences((3, 1, 2))
    assert pickle.loads(pickle.dumps(sequences)) == sequences
