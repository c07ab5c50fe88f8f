"""Whole packs through cuDNN: what it is told of a pack is the pack, and few packs need a plan of their own.

Plans are carried out by `cudnn_by_hand`; tests/gpu/test_ragged_attention.py runs cuDNN's own.
"""

from __future__ import annotations

import random
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cosmos_core
from cosmos_core.attention import PackedSequences, describe_kernels, faster_with, kernels, ragged
from cosmos_core.attention.ragged import RaggedHeads, ragged_attention, ragged_workspace
from tests.unit.attention import cudnn_by_hand
from tests.unit.attention.plain import with_gradients
from tests.unit.attention.test_kernels import HEADS, alone, assert_close, inputs

CPU = torch.device("cpu")
HAS_FRONTEND = ragged.has_cudnn_frontend
PLANS = (ragged._forward_plan, ragged._backward_plan, ragged._has_plans)
SIZES = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """cuDNN on the CPU, and none of its plans from before."""
    monkeypatch.setitem(sys.modules, "cudnn", cudnn_by_hand)
    monkeypatch.setattr(ragged, "_handle", lambda device, thread: 1)
    monkeypatch.setattr(ragged, "has_cudnn_frontend", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    for plans in PLANS:
        plans.cache_clear()
    yield
    for plans in PLANS:
        plans.cache_clear()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES, heads=HEADS)
def test_each_sequence_attends_to_the_one_in_its_place(sizes: list[tuple[int, int]], heads: tuple[int, int]) -> None:
    queries, keys = (PackedSequences(lengths) for lengths in zip(*sizes, strict=True))
    pack = inputs(sum(queries.lengths), sum(keys.lengths), heads)
    found = with_gradients(lambda q, k, v: ragged_attention(q, k, v, queries, keys, causal=False), *pack)
    assert_close(found, with_gradients(alone(queries, keys), *pack))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6), heads=HEADS)
def test_causal_attention_sees_no_later_token(lengths: list[int], heads: tuple[int, int]) -> None:
    sequences = PackedSequences(tuple(lengths))
    pack = inputs(sum(lengths), sum(lengths), heads)
    found = with_gradients(lambda q, k, v: ragged_attention(q, k, v, sequences, sequences, causal=True), *pack)
    assert_close(found, with_gradients(alone(sequences, sequences, causal=True), *pack))


def test_packs_of_ever_new_lengths_share_a_few_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged._Plan, "run", lambda *arguments: None)
    lengths = random.Random(1)
    for _ in range(30):
        latents = [144] * lengths.randrange(16, 24)
        queries = PackedSequences(tuple(latents))
        keys = PackedSequences(tuple(length + lengths.randrange(50, 100) for length in latents))
        q, k, v = inputs(sum(queries.lengths), sum(keys.lengths), (2, 1))
        ragged_attention(q.requires_grad_(), k, v, queries, keys, causal=False).sum().backward()
    forward, backward = (plans.cache_info().currsize for plans in PLANS[:2])
    assert forward <= 2
    assert backward <= 6


def test_what_a_plan_needs_besides_is_measured_by_rounded_tokens() -> None:
    """2,052 MiB on an H100 for 28,800 queries and 44,000 keys, as cuDNN says."""
    assert 2048 <= ragged_workspace(32, 128, 28_800, 44_000) / 2**20 <= 2052


def test_sequences_of_another_device_are_refused() -> None:
    """cuDNN is given addresses, and would read there."""
    sequences = PackedSequences((3, 4), torch.device("meta"))
    with pytest.raises(ValueError, match="not there"):
        ragged_attention(*inputs(7, 7, (2, 2)), sequences, sequences, causal=True)


@pytest.mark.parametrize(("queries", "keys"), [((3, 5), (3, 4)), ((3, 4), (3, 5)), ((3, 4), (3, 4, 0))], ids=str)
def test_sequences_that_are_not_those_of_the_tensors_are_refused(
    queries: tuple[int, ...], keys: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="not those of"):
        ragged_attention(*inputs(7, 7, (2, 2)), PackedSequences(queries), PackedSequences(keys), causal=False)


def test_keys_of_another_dtype_are_refused() -> None:
    sequences, (q, k, v) = PackedSequences((3, 4)), inputs(7, 7, (2, 2))
    with pytest.raises(ValueError, match="not of one dtype"):
        ragged_attention(q, k.double(), v, sequences, sequences, causal=True)


@pytest.mark.parametrize(
    ("installed", "serves"), [("1.8.0", False), ("1.18.0", True), ("1.22.1", True), ("1.24.1", False)]
)
def test_a_package_of_another_version_counts_as_none(
    installed: str, serves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.8.0 knows no `diagonal_band_right_bound`."""
    monkeypatch.setattr(ragged, "version", lambda name: installed)
    assert HAS_FRONTEND.__wrapped__() == serves


def test_a_hopper_card_without_the_package_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_is_hopper", lambda device: device.type == "cuda")
    card = torch.device("cuda", 7)
    for installed, hint, kernel in (
        (True, "", "a pack in one call"),
        (False, ragged.CUDNN_FRONTEND, "unequal lengths"),
    ):
        monkeypatch.setattr(kernels, "has_cudnn_frontend", lambda installed=installed: installed)
        monkeypatch.setattr(kernels, "_has_varlen_kernel", lambda device: True)
        assert hint in faster_with(card)
        assert bool(hint) == bool(faster_with(card))
        assert describe_kernels(card).endswith(kernel)
    assert not faster_with(CPU)


def test_the_package_that_is_asked_for_is_the_one_of_the_extra() -> None:
    extras = tomllib.loads((Path(cosmos_core.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert extras["project"]["optional-dependencies"]["cudnn"] == [ragged.CUDNN_FRONTEND]


def test_only_what_cudnn_has_plans_for_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RaggedHeads(32, 8, 128, torch.bfloat16, CPU).supported
    for dim, dtype in ((128, torch.float32), (100, torch.bfloat16), (256, torch.float16)):
        assert not RaggedHeads(32, 8, dim, dtype, CPU).supported
    monkeypatch.setattr(ragged, "has_cudnn_frontend", lambda: False)
    assert not RaggedHeads(32, 8, 128, torch.bfloat16, CPU).supported


def test_a_package_that_does_not_fit_cudnn_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As 1.24 with cuDNN 9.19, whose backward pass has no plan; others may have none with another cuDNN."""

    def no_plan(*arguments: object, **options: object) -> None:
        raise RuntimeError("CUDNN_STATUS_BAD_PARAM")

    warnings: list[str] = []
    monkeypatch.setattr(cudnn_by_hand.pygraph, "sdpa_backward", no_plan)
    monkeypatch.setattr(ragged.logger, "warning", lambda message, *values: warnings.append(message % values))
    assert [RaggedHeads(4, 2, 64, torch.bfloat16, CPU).supported for _ in range(3)] == [False] * 3
    (warning,) = warnings
    assert warning.startswith("nvidia-cudnn-frontend 1.0 has no plan for attention with cuDNN 90000")
    assert warning.endswith("CUDNN_STATUS_BAD_PARAM")
