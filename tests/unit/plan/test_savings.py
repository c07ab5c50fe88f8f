"""The change that a plan names makes the recipe fit, costs as little as it can, and holds nothing needless."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from cosmos_core.config import AdaptedModelConfig, Ema, RunConfig
from cosmos_core.plan import Degrees, Estimate
from cosmos_core.plan.costs import GIB, ParameterCounts
from cosmos_core.plan.savings import Case, cheapest, on_a_command_line, savings
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load

MODES = ("none", "selective", "full")


def _estimate(config: RunConfig) -> Estimate:
    """Two billion parameters, and 32 GiB of activations in a pack; a hundredth trains with adapters."""
    adapted = isinstance(config.model, AdaptedModelConfig) and config.model.lora_enabled
    whole = 2 * 10**9
    trained = whole // 100 if adapted else whole
    return Estimate(
        parameters=ParameterCounts(
            trained=trained, frozen=whole - trained, root=10**8, root_trained=0, unit=10**8, unit_trained=10**8
        ),
        sample="",
        samples=16,
        tokens=1600,
        kept={
            mode: {"activations": size * GIB} for mode, size in {"none": 32.0, "selective": 24.0, "full": 16.0}.items()
        },
        working=dict.fromkeys(MODES, 0.0),
        flops=1e15,
        recomputed={mode: {} for mode in MODES},
        width=4096,
        utilisation=(0.4, 0.5),
    )


@pytest.fixture(scope="module")
def hello() -> RunConfig:
    return load("hello", plugins=PluginManager.discover())


def _case(hello: RunConfig, **changes: Any) -> Case:
    """Without recomputation, on one GPU. The full peak is about 35 GiB without activations, 70 with them."""
    model = AdaptedModelConfig(precision="bfloat16", ema=Ema(enabled=False))
    config = evolve(hello, model=model)
    return Case(
        estimate=_estimate(config),
        estimated=_estimate,
        config=config,
        degrees=Degrees(replicate=1, shard=1, context=1),
        mode="none",
        **changes,
    )


def test_the_first_change_that_fits_alone_is_named_alone(hello: RunConfig) -> None:
    assert cheapest(_case(hello), 55.0) == ["model.activation_checkpointing.mode=selective"]


def test_more_recomputation_is_named_whole_since_auto_took_what_it_changes(hello: RunConfig) -> None:
    """With a recipe's `auto` alone a share has no effect, and without it a pack is not divided."""
    key = "model.activation_checkpointing"
    divided, in_half = _case(hello, parts=3), evolve(_case(hello, share=0.5), mode="full")
    assert savings(divided)[0].settings == (f"{key}.mode=selective", f"{key}.parts=3")
    assert savings(in_half)[0].settings == (f"{key}.mode=full", f"{key}.share=1.0")


def test_several_changes_are_named_without_those_that_the_others_make_needless(hello: RunConfig) -> None:
    change = cheapest(_case(hello), 18.0)
    assert change is not None
    assert change[-1] == "--nproc 4"
    by_key = {text.partition("=")[0] for text in change}
    assert len(by_key) == len(change), "each key once"


def test_without_more_gpus_adapters_are_the_last_resort(hello: RunConfig) -> None:
    larger, smaller = (cheapest(_case(hello), memory, more_gpus=False) for memory in (36.0, 18.0))
    assert larger is not None
    assert smaller is not None
    assert "model.lora_enabled=true" not in larger
    assert smaller[:2] == ["model.lora_enabled=true", 'optimizer.keys_to_select=["lora_"]']
    assert cheapest(_case(hello), 3.0, more_gpus=False) is None, "the frozen weights alone take more"


def test_settings_are_quoted_as_a_shell_needs_it() -> None:
    text = on_a_command_line(["--nproc 4", "a.b=1", 'c.d=["x"]'])
    assert text == "--nproc 4 a.b=1 'c.d=[\"x\"]'"
