"""Blocks that recompute are compiled too, share one graph, and still save what selective checkpointing should."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import profile

from cosmos_core.config import ActivationCheckpointing, Compile, ModelConfig
from cosmos_core.distributed import apply_activation_checkpointing, compile_blocks, compile_fn, config_of_layer

BLOCKS, HIDDEN = 10, 16
ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)

    def forward(self, hidden: torch.Tensor, *, scale: float) -> torch.Tensor:
        q, k, v = self.qkv(hidden).unflatten(-1, (3, 2, -1)).movedim(-2, 1).unbind(-2)
        return hidden + scale * self.out(scaled_dot_product_attention(q, k, v).movedim(1, -2).flatten(-2))


def blocks() -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(Block() for _ in range(BLOCKS))


def passed(stack: nn.ModuleList) -> dict[str, torch.Tensor]:
    """The result, and all gradients."""
    stack.zero_grad()
    hidden = torch.randn(2, 8, HIDDEN, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for block in stack:
        hidden = block(hidden, scale=0.5)
    hidden.square().sum().backward()
    return {"result": hidden.detach()} | {name: value.grad for name, value in stack.named_parameters()}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("mode", "saved", "attention", "linear"),
    [("full", "unused", 2, 3), ("selective", "scaled_dot", 1, 3)],
)
def test_compiled_blocks_recompute_what_is_not_saved(mode: str, saved: str, attention: int, linear: int) -> None:
    """attention, linear: forward passes of attention and of the two linear layers in a block.

    Nothing needs the result of the second one again. Bound: 1e-5 relative, since fused kernels round differently.
    """
    torch._dynamo.reset()
    counters.clear()
    plain, stack = blocks(), blocks()
    apply_activation_checkpointing(stack, ActivationCheckpointing(mode=mode, save_ops_regex=(saved,)))
    compile_blocks(stack, Compile(enabled=True))
    found, expected = passed(stack), passed(plain)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float((found[name] - value).norm()) <= 1e-5 * float(value.norm()) + 1e-7, name
    assert counters["stats"]["unique_graphs"] == 1
    with profile() as profiled:
        passed(stack)
    calls = {event.key: event.count for event in profiled.key_averages()}
    assert (calls[ATTENTION], calls["aten::addmm"]) == (attention * BLOCKS, linear * BLOCKS)


def test_what_the_compiler_says_of_its_own_choices_is_not_told() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        compile_fn(torch.sin, Compile(enabled=True))
        warnings.warn("\nOnline softmax is disabled on the fly since Inductor decides to\nsplit", stacklevel=1)
    assert not told


def test_only_the_share_of_the_layers_recomputes() -> None:
    model = ModelConfig(activation_checkpointing=ActivationCheckpointing(mode="selective", share=0.5))
    modes = [config_of_layer(model, index, 5).activation_checkpointing.mode for index in range(5)]
    assert modes == ["selective", "selective", "none", "none", "none"]
