"""Compiled, recomputed and chunked: the same loss and gradients as the plain computation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cosmos_core.attention import PackedSequences, packed_attention
from cosmos_core.config import ActivationCheckpointing, Compile, DataloaderConfig, DatasetConfig
from cosmos_core.data import Chat, Image, Item, Message, Video
from cosmos_core.distributed import CounterRng, local_mesh
from cosmos_core.train import BuildContext
from cosmos_core.train.weights import initialise_rest
from cosmos_vlm.batch import collate
from cosmos_vlm.config import Backbone, VlmConfig
from cosmos_vlm.family import VlmFamily
from cosmos_vlm.loss import chunk_loss, summed_cross_entropy
from tests.tiny_reasoner import write_reasoner


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(sum(shape))).to(torch.uint8)


def chat(said: str, *parts: Any) -> Chat:
    return Chat(said, (Message("user", (*parts, "What is it?")), Message("assistant", (said,))))


MIXED = (
    chat("a text"),
    chat("a picture", Image(pixels(3, 64, 96))),
    chat("a film", Video(pixels(3, 4, 64, 64), (0.0, 0.5, 1.0, 1.5))),
)
OTHER = (chat("a longer text"), chat("two", Image(pixels(3, 96, 96)), Image(pixels(3, 64, 64))))
EQUAL = (chat("one", Image(pixels(3, 64, 64))), chat("one", Image(pixels(3, 64, 64))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reasoner(tmp_path_factory.mktemp("reasoner") / "tiny")


def built(folder: Path, **options: Any) -> tuple[VlmFamily, Any]:
    small = {"precision": "float32", "image_min_pixels": 1024, "video_min_pixels": 1024}
    config = VlmConfig(backbone=Backbone(model_name=str(folder)), **small, **options)
    data = DataloaderConfig(dataset=DatasetConfig(type="none"), max_samples_per_batch=4)
    family = VlmFamily(config, BuildContext(device=torch.device("cpu"), data=data))
    with torch.device("meta"):
        model: Any = family.build()
    family.parallelize(model, local_mesh(torch.device("cpu")))
    model.to_empty(device="cpu")
    initialise_rest(model, family, CounterRng(0))
    return family, model


def learned(family: VlmFamily, model: Any, chats: Iterable[Chat]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of a pack."""
    model.zero_grad()
    loss = model(collate([Item(index, family.prepare(one)) for index, one in enumerate(chats)]))
    loss.backward()
    return float(loss.detach()), {name: value.grad.clone() for name, value in model.named_parameters()}


def assert_same(found: tuple[float, dict[str, torch.Tensor]], wanted: tuple[float, dict[str, torch.Tensor]]) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    for name, gradient in wanted[1].items():
        assert float((found[1][name] - gradient).norm()) <= 2e-5 * float(gradient.norm()) + 1e-7, name


@pytest.mark.parametrize("attention", ["cosmos", "sdpa"])
@pytest.mark.parametrize(("mode", "kept"), [("selective", "fmha"), ("selective", "addmm|mm"), ("full", "fmha")])
def test_recomputation_changes_nothing(folder: Path, mode: str, kept: str, attention: str) -> None:
    options = {"attn_implementation": attention}
    plain = built(folder, activation_checkpointing=ActivationCheckpointing(mode="none"), **options)
    settings = ActivationCheckpointing(mode=mode, save_ops_regex=(kept,))
    again = built(folder, activation_checkpointing=settings, **options)
    assert_same(learned(*again, MIXED), learned(*plain, MIXED))


def test_recomputation_repeats_attention_under_full_alone_and_a_share_begins_with_the_tower(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer attends once a step, and once more where it recomputes as a whole."""
    from cosmos_vlm import blocks

    calls: Counter[str] = Counter()
    attend = blocks.packed_attention

    def counted(*arguments: Any, causal: bool, **options: Any) -> torch.Tensor:
        calls["language" if causal else "tower"] += 1
        return attend(*arguments, causal=causal, **options)

    monkeypatch.setattr(blocks, "packed_attention", counted)
    for mode, share, tower, language in (("selective", 1, 3, 3), ("full", 1, 6, 6), ("full", 0.5, 6, 3)):
        calls.clear()
        family, model = built(folder, activation_checkpointing=ActivationCheckpointing(mode=mode, share=share))
        learned(family, model, MIXED)
        assert calls == {"tower": tower, "language": language}


def test_compiled_layers_give_the_same_and_serve_packs_of_any_lengths(folder: Path) -> None:
    """Five graphs in all: two of a layer of each tower, and the loss."""
    torch._dynamo.reset()
    counters.clear()
    kept = ActivationCheckpointing(mode="selective")
    compiled = built(folder, compile=Compile(enabled=True), activation_checkpointing=kept)
    plain = built(folder)
    assert_same(learned(*compiled, MIXED), learned(*plain, MIXED))
    assert counters["stats"]["unique_graphs"] == 5
    with torch.compiler.set_stance("fail_on_recompile"):
        for pack in (OTHER, EQUAL, MIXED[:1]):
            assert_same(learned(*compiled, pack), learned(*plain, pack))


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    heads=st.sampled_from([(2, 2), (4, 2)]),
    causal=st.booleans(),
)
def test_packed_attention_is_attention_of_each_stretch_alone(
    lengths: list[int], heads: tuple[int, int], causal: bool
) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    q, k, v = (torch.randn(sum(lengths), count, 8, generator=generator) for count in (heads[0], heads[1], heads[1]))
    results = []
    for packed in (True, False):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        if packed:
            sequences = PackedSequences(tuple(lengths))
            mixed = packed_attention(*inputs, sequences, causal=causal)
        else:
            mixed = torch.cat([one(*part, causal) for part in zip(*(x.split(lengths) for x in inputs), strict=True)])
        (mixed * torch.arange(mixed.numel()).view(mixed.shape).sin()).sum().backward()
        results.append((mixed.detach(), *(x.grad for x in inputs)))
    for mine, other in zip(*results, strict=True):
        assert torch.allclose(mine, other, rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]


def one(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    rows = (x.transpose(0, 1)[None] for x in (q, k, v))
    return scaled_dot_product_attention(*rows, is_causal=causal, enable_gqa=True)[0].transpose(0, 1)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(33, 4096), min_size=1, max_size=60))
def test_many_dialogs_cost_few_kernels_and_little_padding(lengths: list[int]) -> None:
    batches = PackedSequences(tuple(lengths)).buckets.sizes
    assert len(batches) <= 32
    assert sum(count for count, _ in batches) == len(lengths)
    assert sum(count * width for count, width in batches) <= 1.25 * sum(lengths)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 9), chunk=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_chunked_loss_and_its_gradients_are_those_of_cross_entropy(rows: int, chunk: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(rows, 5, generator=generator), torch.randn(7, 5, generator=generator)
    targets = torch.randint(0, 7, (rows,), generator=generator)
    results = []
    for ours in (True, False):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = (
            summed_cross_entropy(h, w, targets, chunk)
            if ours
            else cross_entropy(linear(h, w), targets, reduction="sum")
        )
        (3 * loss).backward()
        results.append((loss.detach(), h.grad, w.grad))
    for mine, other in zip(*results, strict=True):
        assert mine is not None
        assert other is not None
        assert torch.allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rows", "sizes"), [(8, [4, 4]), (9, [4, 4, 1]), (3, [3])])
def test_logits_are_made_in_chunks_of_the_given_size(rows: int, sizes: list[int]) -> None:
    seen: list[tuple[int, int]] = []

    def watched(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((len(logits), len(targets)))
        return chunk_loss(logits, targets)

    summed_cross_entropy(torch.randn(rows, 5), torch.randn(7, 5), torch.zeros(rows, dtype=torch.int64), 4, watched)
    assert seen == [(size, size) for size in sizes]


def test_the_chunked_loss_serves_frozen_parts_and_evaluation() -> None:
    hidden, weight = torch.randn(4, 5), torch.randn(7, 5, requires_grad=True)
    targets = torch.tensor([0, 6, 2, 2])
    summed_cross_entropy(hidden, weight, targets, 2).backward()
    assert weight.grad is not None
    assert weight.grad.any()
    with torch.no_grad():
        plain = cross_entropy(linear(hidden, weight), targets, reduction="sum")
        assert torch.allclose(summed_cross_entropy(hidden, weight, targets, 3), plain)


class Sizes(TorchDispatchMode):
    """Shapes of all memory that operators fill while it is on, on the way back too; views of what is there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        taken, new = ([x for x in tree_leaves(values) if isinstance(x, torch.Tensor)] for values in (args, made))
        there = {value.untyped_storage().data_ptr() for value in taken}
        self.shapes += [value.shape for value in new if value.untyped_storage().data_ptr() not in there]
        return made

    @property
    def largest(self) -> int:
        """Elements."""
        return max(shape.numel() for shape in self.shapes)


@pytest.mark.parametrize("frozen", [False, True], ids=["head trains", "head is frozen"])
def test_all_logits_never_exist(frozen: bool) -> None:
    """Nothing is larger than a chunk of them, or the head itself."""
    rows, width, vocabulary, chunk = 50, 8, 300, 4
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=not frozen)
    targets = torch.arange(rows)
    with Sizes() as sizes:
        summed_cross_entropy(hidden, weight, targets, chunk).backward()
    assert sizes.largest == max(chunk * vocabulary, 0 if frozen else vocabulary * width)
    with Sizes() as sizes:
        cross_entropy(linear(hidden, weight), targets, reduction="sum").backward()
    assert sizes.largest == rows * vocabulary


def test_a_training_step_makes_logits_a_chunk_at_a_time(folder: Path) -> None:
    family, model = built(folder, loss_chunk_size=3)
    batch = collate([Item(index, family.prepare(one)) for index, one in enumerate((*MIXED, *OTHER))])
    vocabulary = family.architecture.text_config.vocab_size
    assert len(batch.target_indices) > 10 * 3
    with Sizes() as sizes:
        model(batch).backward()
    assert max(shape.numel() // vocabulary for shape in sizes.shapes if shape[-1:] == (vocabulary,)) == 3
