"""A layer in regions gives the same bits however it is checkpointed, and repeats only what it should."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.comptime import comptime
from torch._dynamo.utils import counters
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cosmos_core.attention import AttentionRegions, PackedSequences, RegionFunctions, packed_attention
from cosmos_core.config import ActivationCheckpointing, Compile, ModelConfig
from cosmos_core.distributed.compile import compiling_seconds

HIDDEN, HEADS = 16, 2
SEQUENCES = PackedSequences((5, 9, 3))
EQUAL = PackedSequences((7, 7))
OTHERS = PackedSequences((3, 4, 6, 11))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.up, self.down = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(3 * HIDDEN, HIDDEN)
        self.regions = AttentionRegions(self, functions_of(Layer))
        self.calls: Counter[str] = Counter()

    def pre_attention(self, hidden: torch.Tensor, scale: float) -> tuple[torch.Tensor, ...]:
        return (scale * self.qkv(hidden)).unflatten(-1, (3, HEADS, -1)).unbind(1)

    def post_attention(self, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        return self.add_down(*self.inner(hidden, mixed))

    def inner(self, hidden: torch.Tensor, mixed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = hidden + self.out(mixed.flatten(1))
        return hidden, torch.relu(self.up(hidden))

    def add_down(self, hidden: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        return hidden + self.down(inner)

    def forward(self, hidden: torch.Tensor, sequences: PackedSequences) -> torch.Tensor:
        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            self.calls["attention"] += 1
            return packed_attention(q, k, v, sequences, causal=True)

        return self.regions(attend, hidden, 0.7)[0]


def functions_of(kind: type[Layer]) -> RegionFunctions:
    return RegionFunctions(kind.pre_attention, kind.post_attention, kind.inner, kind.add_down)


def layers(config: ModelConfig | None) -> nn.ModuleList:
    torch.manual_seed(0)
    stack = nn.ModuleList(Layer() for _ in range(3))
    for layer in stack:
        if config is not None:
            layer.regions.parallelize(config)  # type: ignore[union-attr, operator]
    return stack


def through(stack: nn.ModuleList, hidden: torch.Tensor, sequences: PackedSequences = SEQUENCES) -> torch.Tensor:
    for layer in stack:
        hidden = layer(hidden, sequences)
    return hidden


def passed(stack: nn.ModuleList, sequences: PackedSequences = SEQUENCES) -> dict[str, torch.Tensor]:
    """The result, and all gradients."""
    hidden = torch.randn(sum(sequences.lengths), HIDDEN, generator=torch.Generator().manual_seed(1)).requires_grad_()
    view = hidden[None][0]  # As the first layer's input often is; what others give is none.
    x = through(stack, view, sequences)
    x.square().sum().backward()
    assert hidden.grad is not None
    found = {"result": x.detach(), "hidden": hidden.grad}
    return found | {name: value.grad for name, value in stack.named_parameters() if value.grad is not None}


def config_of(mode: str, *saved: str, compiled: bool = False) -> ModelConfig:
    kept = ActivationCheckpointing(mode=mode, save_ops_regex=saved or ("fmha",))
    return ModelConfig(activation_checkpointing=kept, compile=Compile(enabled=compiled))


@pytest.mark.parametrize("saved", ["fmha", "mm"])
@pytest.mark.parametrize("mode", ["none", "selective", "full"])
def test_checkpointing_changes_no_bit(mode: str, saved: str) -> None:
    found, plain = passed(layers(config_of(mode, saved))), passed(layers(None))
    assert found.keys() == plain.keys()
    assert len(plain) == 2 + 3 * 8
    assert all(torch.equal(found[name], value) for name, value in plain.items())


@pytest.mark.parametrize(("mode", "attention", "regions"), [("none", 1, 1), ("selective", 1, 2), ("full", 2, 2)])
def test_selective_repeats_the_regions_and_full_repeats_attention_too(mode: str, attention: int, regions: int) -> None:
    stack = layers(config_of(mode))
    for layer in stack:
        layer.qkv.register_forward_pre_hook(lambda *_, calls=layer.calls: calls.update(["qkv"]))
    passed(stack)
    for layer in stack:
        assert layer.calls["attention"] == attention
        assert layer.calls["qkv"] == regions


class Products(TorchDispatchMode):
    """Counts matrix products that are really computed."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return func(*args, **(kwargs or {}))


def test_operators_that_selective_saves_are_not_run_again() -> None:
    counts = {}
    for mode, saved in (("none", "fmha"), ("selective", "mm"), ("selective", "fmha")):
        with Products() as products:
            passed(layers(config_of(mode, saved)))
        counts[mode, saved] = products.count
    assert counts["selective", "mm"] == counts["none", "fmha"] < counts["selective", "fmha"]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("mode", ["selective", "full"])
def test_the_down_projection_is_not_computed_again(mode: str, compiled: bool) -> None:
    """A recomputation ends where it begins, so that its forward hook is not reached."""
    torch._dynamo.reset()
    stack, expected = layers(config_of(mode, compiled=compiled)), passed(layers(None))
    for layer in stack:
        layer.down.register_forward_hook(lambda *_, calls=layer.calls: calls.update(["down"]))
    found = passed(stack)
    assert [layer.calls["down"] for layer in stack] == [1, 1, 1]
    assert all(torch.allclose(found[name], value, rtol=1e-5, atol=1e-5) for name, value in expected.items())


def test_recomputation_repeats_every_other_product() -> None:
    products = {}
    for mode in ("none", "full"):
        with FlopCounterMode(display=False) as counted:
            passed(layers(config_of(mode)))
        by_operator = counted.get_flop_counts()["Global"]
        products[mode] = sum(by_operator[product] for product in (torch.ops.aten.mm, torch.ops.aten.addmm))
    of_qkv_out_and_up = 2 * sum(SEQUENCES.lengths) * HIDDEN**2 * (3 + 1 + 3)
    assert products["full"] - products["none"] == 3 * of_qkv_out_and_up


def test_compiled_regions_save_operators_too() -> None:
    torch._dynamo.reset()
    counts, expected = {}, passed(layers(None))
    for mode, saved in (("none", "fmha"), ("selective", "mm"), ("selective", "fmha")):
        stack = layers(config_of(mode, saved, compiled=True))
        found = passed(stack)
        assert all(torch.allclose(found[name], value, rtol=1e-5, atol=1e-5) for name, value in expected.items())
        with profile() as profiled:
            passed(stack)
        products = [event.count for event in profiled.key_averages() if event.key in ("aten::mm", "aten::addmm")]
        counts[mode, saved] = sum(products)
    assert counts["selective", "mm"] == counts["none", "fmha"] < counts["selective", "fmha"]


def test_attention_that_gives_nothing_leaves_hidden_states_as_they_are() -> None:
    layer, hidden = Layer(), torch.randn(4, HIDDEN)
    found, projected = layer.regions(lambda *qkv: None, hidden, 1.0)
    assert found is hidden
    assert [x.shape for x in projected] == [(4, HEADS, HIDDEN // HEADS)] * 3


def test_compiled_regions_give_the_same_and_serve_all_layers_and_packs_of_any_lengths() -> None:
    """Two graphs in all, also where inputs or what attention gives are views of some shape, or none.

    Bound: 1e-5 relative, since fused kernels round differently.
    """
    torch._dynamo.reset()
    counters.clear()
    stack, plain = layers(config_of("selective", compiled=True)), layers(None)

    def compare(sequences: PackedSequences) -> None:
        stack.zero_grad()
        plain.zero_grad()
        found, expected = passed(stack, sequences), passed(plain, sequences)
        for name, value in expected.items():
            assert float((found[name] - value).norm()) <= 1e-5 * float(value.norm()) + 1e-7, name

    before = compiling_seconds(Compile(enabled=True))
    compare(EQUAL)
    assert counters["stats"]["unique_graphs"] == 2
    assert compiling_seconds(Compile(enabled=True)) > before
    assert compiling_seconds(Compile()) == 0
    with torch.compiler.set_stance("fail_on_recompile"):
        compare(SEQUENCES)
        compare(OTHERS)
    with torch.no_grad(), ExitStack() as entered:
        for layer in stack:
            assert isinstance(layer, Layer)
            entered.enter_context(layer.regions.as_written())
        hidden = torch.randn(sum(SEQUENCES.lengths), HIDDEN)
        assert torch.equal(through(stack, hidden), through(plain, hidden))
    assert counters["stats"]["unique_graphs"] == 2, "nothing was compiled for passes without gradients"
    with torch.compiler.set_stance("fail_on_recompile"):
        compare(OTHERS)


class Heads(Layer):
    """Reads sizes of heads from its inputs, as regions must whose module FSDP wraps."""

    def pre_attention(self, hidden: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        comptime.assert_static(scale.shape[-1])
        return (self.qkv(hidden)).unflatten(-1, (3, -1, scale.shape[-1])).unbind(1)

    def post_attention(self, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        comptime.assert_static(mixed.shape[-1])
        comptime.assert_static(mixed.shape[-2])
        return super().post_attention(hidden, mixed)


def test_compiled_regions_take_only_the_number_of_tokens_for_variable() -> None:
    torch._dynamo.reset()
    counters.clear()
    layer = Heads()
    regions = AttentionRegions(layer, functions_of(Heads))
    regions.parallelize(config_of("none", compiled=True))
    for tokens in (5, 9):
        inputs = torch.randn(tokens, HIDDEN), torch.ones(tokens, HIDDEN // HEADS)
        assert regions(lambda q, k, v: q * k * v, *inputs)[0].shape == (tokens, HIDDEN)
    assert counters["stats"]["unique_graphs"] == 2


def test_parameters_keep_their_names() -> None:
    names = [name for name, _ in layers(None).named_parameters()]
    assert [name for name, _ in layers(config_of("full", compiled=True)).named_parameters()] == names
