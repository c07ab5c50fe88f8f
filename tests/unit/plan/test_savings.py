"""The change that a plan names makes the recipe fit, costs as little as it can, and holds nothing needless."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from cosmos_core.config import AdaptedModelConfig, Ema, RunConfig
from cosmos_core.plan import Degrees, Estimate
from cosmos_core.plan.costs import GIB, ParameterCounts
from cosmos_core.plan.gpus import Machine, machine_of
from cosmos_core.plan.savings import Case, best_mode, cheapest, on_a_command_line, savings
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


def test_what_adapters_cost_is_computed_once(hello: RunConfig) -> None:
    asked: list[RunConfig] = []

    def estimated(config: RunConfig) -> Estimate:
        asked.append(config)
        return _estimate(config)

    case = evolve(_case(hello), estimated=estimated)
    cheapest(case, 18.0, more_gpus=False)
    cheapest(case, 18.0, more_gpus=False)
    assert any("model.lora_enabled=true" in saving.settings for saving in savings(case))
    assert len(asked) == 1


def test_settings_are_quoted_as_a_shell_needs_it() -> None:
    text = on_a_command_line(["--nproc 4", "a.b=1", 'c.d=["x"]'])
    assert text == "--nproc 4 a.b=1 'c.d=[\"x\"]'"


def test_more_parts_save_what_their_activations_take_but_for_gradients_that_lie_beside_then(hello: RunConfig) -> None:
    """16 of 32 GiB, 7 of them for gradients."""
    parts = ("model.activation_checkpointing.mode=none", "model.activation_checkpointing.parts=2")
    found = {saving.settings: saving.gib for saving in savings(_case(hello))}
    assert found[parts] == pytest.approx(9.0, abs=0.1)


def test_auto_takes_the_parts_that_make_a_step_fastest_and_more_only_where_nothing_else_fits(hello: RunConfig) -> None:
    estimate = evolve(
        _estimate(evolve(hello, model=AdaptedModelConfig(precision="bfloat16", ema=Ema(enabled=False)))),
        tokens=160_000,
        recomputed={"none": {}, "selective": {"activations": 1e14}, "full": {"activations": 3e14}},
    )
    alone = evolve(_case(hello), estimate=estimate)
    h100 = machine_of("H100")

    def taken(case: Case, machine: Machine) -> tuple[str, float, int] | None:
        best = best_mode(case, machine)
        return None if best is None else (best.mode, best.share, best.parts)

    assert taken(alone, evolve(h100, memory=80.0)) == ("none", 1.0, 1)
    assert taken(alone, evolve(h100, memory=56.0)) == ("none", 1.0, 2), "one GPU exchanges nothing"
    unknown = Machine("", 1, 56.0)
    assert taken(alone, unknown) == ("none", 1.0, 2)
    shared = evolve(alone, degrees=Degrees(replicate=1, shard=2, context=1))
    two = evolve(machine_of("2xH100"), memory=45.0)
    assert taken(shared, two) == ("none", 1.0, 2), "recomputation takes longer than another exchange"
    assert taken(shared, evolve(two, on_a_host=1)) == ("full", 0.56, 1), "not between hosts"
    assert taken(shared, evolve(unknown, count=2, memory=45.0)) == ("full", 0.56, 1), "an exchange may take any time"
    assert taken(shared, evolve(unknown, count=2, memory=24.0)) == ("none", 1.0, 8), "but it may be what fits"
    assert taken(shared, evolve(unknown, count=2, memory=15.0)) is None
    smallest = evolve(shared, mode="full", parts=8).peak
    assert taken(shared, evolve(unknown, count=2, memory=1.01 * smallest)) == ("full", 1.0, 8), "without a margin"
