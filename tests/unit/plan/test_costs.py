"""The arithmetic of a plan: moments of a step, checkpoints on the disk, kinds of GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from cosmos_core.config import CheckpointConfig, RunConfig
from cosmos_core.config.run import KeepBest
from cosmos_core.errors import UserError
from cosmos_core.plan import Degrees, Estimate
from cosmos_core.plan.costs import (
    COMMUNICATION_SLOWDOWN,
    GIB,
    ParameterCounts,
    checkpoint_bytes,
    checkpoints_kept,
    memory_items,
    overlong_notes,
    staging_bytes,
    step_seconds,
    usual_samples,
)
from cosmos_core.plan.gpus import GPUS, Machine, gpu_of, machine_of, memory_of
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load

MODES = ("none", "selective", "full")
ALONE = Degrees(replicate=1, shard=1, context=1)


def config(*overrides: str) -> RunConfig:
    return load("hello", ("model.ema.enabled=true", *overrides), plugins=PluginManager.discover())


def estimate(**changes: Any) -> Estimate:
    """A billion trained parameters, half a billion frozen ones, and 20 GiB of activations."""
    counts = ParameterCounts(
        trained=10**9, frozen=5 * 10**8, root=10**8, root_trained=10**8, unit=2 * 10**8, unit_trained=10**8
    )
    values: dict[str, Any] = {
        "parameters": counts,
        "sample": "",
        "samples": 8,
        "tokens": 800,
        "kept": {mode: {"activations": 20.0 * GIB} for mode in MODES},
        "working": dict.fromkeys(MODES, float(GIB)),
        "flops": 989e12,
        "recomputed": {"none": {}, "selective": {"activations": 98.9e12}, "full": {"activations": 329e12}},
        "width": 4096,
        "utilisation": (0.5, 0.5),
        **changes,
    }
    return Estimate(**values)


def test_gradients_lie_beside_activations_only_while_micro_batches_are_accumulated() -> None:
    once, twice = config("trainer.grad_accum_iter=1"), config("trainer.grad_accum_iter=2")
    assert "gradients" not in memory_items(estimate(), once, ALONE, "none")
    assert memory_items(estimate(), twice, ALONE, "none")["gradients"] == 4e9


def test_without_activations_the_peak_is_the_end_of_the_backward_pass() -> None:
    small = estimate(kept={mode: {"activations": 1.0} for mode in MODES}, working=dict.fromkeys(MODES, 0.0))
    items = memory_items(small, config("trainer.grad_accum_iter=1"), ALONE, "none")
    assert items["gradients"] == 4e9
    assert "activations" not in items


def test_processes_that_share_the_weights_hold_a_part_of_all_but_what_is_gathered() -> None:
    alone = memory_items(estimate(), config(), ALONE, "none")
    four = memory_items(estimate(), config(), evolve(ALONE, shard=4), "none")
    for name in ("Adam moments", "average", "trained weights, float32"):
        assert four[name] == alone[name] / 4
    assert four["gathered weights"] == alone["gathered weights"] > 0
    copies = memory_items(estimate(), config(), evolve(ALONE, replicate=4), "none")
    assert copies["Adam moments"] == alone["Adam moments"]


def test_seconds_follow_the_peak_of_the_gpu_and_what_is_recomputed() -> None:
    def seconds(gpu: str, mode: str) -> float:
        found = step_seconds(estimate(), config("trainer.grad_accum_iter=1"), ALONE, mode, machine_of(gpu))
        assert found is not None
        return found[0]

    assert 2.0 < seconds("H100", "none") < 2.05, "989 TFLOP at half of the peak, and the update"
    assert seconds("H100", "full") - seconds("H100", "none") == pytest.approx(2 * 329 / 989)
    assert seconds("A100", "none") > 3 * seconds("H100", "none")
    assert step_seconds(estimate(), config(), ALONE, "none", memory_of("24GB")) is None
    assert step_seconds(estimate(width=160), config(), ALONE, "none", machine_of("H100")) is None, "bound by launches"
    assert step_seconds(estimate(utilisation=None), config(), ALONE, "none", machine_of("H100")) is None, "not measured"


def test_a_step_takes_at_least_as_long_as_its_kernels_are_launched() -> None:
    def least(host_seconds: float) -> float:
        twice = config("trainer.grad_accum_iter=2")
        found = step_seconds(estimate(host_seconds=host_seconds), twice, ALONE, "none", machine_of("H100"))
        assert found is not None
        return found[0]

    assert least(1.0) == least(0.0), "the device has more to do"
    assert least(10.0) - least(0.0) == pytest.approx(2 * (9.0 - 2.0))


def test_a_share_of_the_layers_recomputes_from_the_first_on() -> None:
    items = {"tower": 12.0 * GIB, "language": 4.0 * GIB, "loss": 1.0 * GIB}
    halves = {"tower": 6.0 * GIB, "language": 2.0 * GIB, "loss": 1.0 * GIB}
    both = estimate(
        kept={"none": items, "full": halves},
        recomputed={"none": {}, "full": {"tower": 3e12, "language": 40e12}},
        layers={"tower": 3, "language": 1},
    )

    def kept(share: float) -> list[float]:
        planned = memory_items(both, config(), ALONE, "full", share)
        return [planned[name] / GIB for name in items]

    assert kept(0.0) == [12, 4, 1]
    assert kept(0.5) == [8, 4, 1], "two of three"
    assert kept(0.875) == [6, 3, 1]
    assert kept(1.0) == [6, 2, 1]
    assert both.recomputed_flops("full", 0.5) == pytest.approx(2e12)
    assert both.recomputed_flops("full", 0.875) == pytest.approx(3e12 + 20e12)
    assert both.recomputed_flops("none", 1.0) == 0


def test_exchanged_weights_and_their_copies_are_in_the_way_of_what_is_computed() -> None:
    def seconds(flops: float, degrees: Degrees) -> tuple[float, float]:
        small = estimate(flops=flops, other_seconds=1.0)
        one_pack = config("trainer.grad_accum_iter=1", "model.precision=bfloat16")
        found = step_seconds(small, one_pack, degrees, "none", machine_of("8xH100"))
        assert found is not None
        return found

    four = evolve(ALONE, shard=4)
    nothing, alone, much = seconds(0.0, four), seconds(0.0, ALONE), seconds(989e12, four)
    # 3 billion gathered at 2 bytes, a billion gradients at 4; three quarters of them lie elsewhere. All of
    # them are read and written once more.
    exchanged, copied, update = COMMUNICATION_SLOWDOWN * 0.75 * 10e9, 18e9 / 3.0e12, 44e9 / 3.0e12
    assert nothing[0] == pytest.approx(exchanged / 450e9 + copied + update / 4 + 0.9)
    assert nothing[1] == pytest.approx(exchanged / 237e9 + copied + 1.5 * update / 4 + 1.2)
    assert alone[0] == pytest.approx(update + 0.9), "one process sends nothing"
    assert much[0] == pytest.approx(2 + nothing[0])
    shared = seconds(0.0, evolve(ALONE, context=2))
    exchanged = COMMUNICATION_SLOWDOWN * 0.5 * 10e9
    assert shared[0] == pytest.approx(exchanged / 450e9 + copied + update / 2 + 0.45), "two encode half of a pack each"


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 10),
        ({"keep_last": 2}, 3),
        ({"keep_last": 2, "keep_every": 500}, 5),
        ({"keep_last": 2, "keep_every": 500, "keep_best": KeepBest(count=1)}, 6),
        ({"keep_last": 50}, 10),
    ],
)
def test_the_disk_holds_what_is_kept_and_the_one_that_is_being_written(settings: dict[str, Any], count: int) -> None:
    assert checkpoints_kept(CheckpointConfig(save_iter=100, **settings), 1000) == count


def test_a_checkpoint_holds_frozen_weights_but_where_they_are_left_to_a_base() -> None:
    whole, left = "checkpoint.include_frozen=true", "checkpoint.include_frozen=false"
    assert checkpoint_bytes(estimate(), config("model.precision=bfloat16")) == 17e9
    on_base = ("model.init=pretrained", "checkpoint.load_path=base")
    assert checkpoint_bytes(estimate(), config("model.precision=bfloat16", left, *on_base)) == 16e9
    adapters = (estimate(adapters=True), "model.ema.enabled=false")
    assert checkpoint_bytes(adapters[0], config(adapters[1], *on_base)) == 12e9
    assert checkpoint_bytes(adapters[0], config(adapters[1], *on_base, whole)) == 14e9
    assert checkpoint_bytes(adapters[0], config(adapters[1])) == 14e9


def test_saves_in_the_background_need_a_processs_share_of_a_checkpoint_in_host_memory() -> None:
    four = Degrees(replicate=2, shard=2, context=1)
    saving = ("model.precision=bfloat16", "trainer.max_iter=200", "checkpoint.save_iter=100")
    assert staging_bytes(estimate(), config(*saving), ALONE) == 17e9
    assert staging_bytes(estimate(), config(*saving), four) == 8.5e9
    assert staging_bytes(estimate(), config(*saving, "checkpoint.async_save=false"), ALONE) == 0
    rarely = (*saving, "checkpoint.save_iter=200")
    assert staging_bytes(estimate(), config(*rarely), ALONE) == 0
    by_clock = config(*rarely, "checkpoint.save_every_minutes=30")
    assert staging_bytes(estimate(), by_clock, ALONE) == 17e9
    assert checkpoints_kept(by_clock.checkpoint, 200, hours=2.0) == 5


def test_a_pack_holds_what_the_tightest_limit_lets_in() -> None:
    loader = evolve(config().dataloader_train, max_samples_per_batch=None, max_sequence_length=1000)
    assert usual_samples(loader, 100) == 10
    assert usual_samples(loader, 100, cap=500) == 5
    assert usual_samples(evolve(loader, max_samples_per_batch=3), 100) == 3
    assert usual_samples(loader, 5000) == 1


@pytest.mark.parametrize(
    ("overlong", "does"),
    [("error", "ends at the first"), ("skip", "leaves such samples out"), ("resize", "makes such samples shorter")],
)
def test_a_sample_longer_than_a_pack_is_told_with_what_training_does(overlong: str, does: str) -> None:
    loader = evolve(config().dataloader_train, max_sequence_length=1000, packing="fill", overlong=overlong)
    (note,) = overlong_notes(loader, 1000)
    assert "1,000 tokens and a pack 1,000" in note
    assert does in note
    assert overlong_notes(loader, 999) == overlong_notes(evolve(loader, packing="pool"), 1000) == ()
    assert overlong_notes(loader, 500, cap=500)


def test_gpus_are_named_with_and_without_memory_and_number() -> None:
    assert machine_of("8xH100-80GB") == machine_of("8 x h100")
    assert (machine_of("8xh200").count, machine_of("L4").gpu) == (8, GPUS["L4-24GB"])
    assert memory_of("24GB").memory == pytest.approx(24e9 / GIB)
    assert memory_of("22.5 GiB").memory == 22.5


@pytest.mark.parametrize(
    ("read", "text", "message", "hint"),
    [
        (machine_of, "8xH101", "no known kind", "did you mean 'H100'?"),
        (machine_of, "RTX4090-48GB", "no known kind", "did you mean 'RTX4090-24GB'?"),
        (machine_of, "A6000", "no known kind", "did you mean 'RTXA6000'?"),
        (machine_of, "4xMI300", "no known kind", "known are H100-80GB"),
        (machine_of, "0xH100", "no number of GPUs", "write it like 8xH100"),
        (machine_of, "-1xH100", "no number of GPUs", "write it like 8xH100"),
        (machine_of, "100001xH100", "no number of GPUs from 1 to 100,000", "write it like 8xH100"),
        (machine_of, f"{'9' * 5000}xH100", "no number of GPUs", "write it like 8xH100"),
        (machine_of, "8", "names no kind", "write it like 8xH100-80GB"),
        (machine_of, "8x", "names no kind", "write it like 8xH100-80GB"),
        (machine_of, "", "names no kind", "write it like 8xH100-80GB"),
        (memory_of, "24", "has no unit", "write 24GB"),
        (memory_of, "-1GB", "no amount of memory", "write it like 24GB"),
        (memory_of, "0GB", "no amount of memory", "write it like 24GB"),
        (memory_of, "0", "no amount of memory", "write it like 24GB"),
        (memory_of, "24TB", "no amount of memory", "write it like 24GB"),
        (memory_of, "lots", "no amount of memory", "write it like 24GB"),
    ],
)
def test_a_machine_that_makes_no_sense_is_one_error_that_says_what_to_write(
    read: Callable[[str], Machine], text: str, message: str, hint: str
) -> None:
    with pytest.raises(UserError) as raised:
        read(text)
    (problem,) = raised.value.problems
    assert problem.key == ("--gpus" if read is machine_of else "--memory")
    assert message in problem.message
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize(
    ("device", "peak"),
    [("NVIDIA H100 80GB HBM3", 989), ("NVIDIA A100-SXM4-40GB", 312), ("NVIDIA L40S", 362), ("NVIDIA L4", 121)],
)
def test_peaks_are_found_by_the_drivers_name(device: str, peak: float) -> None:
    gpu = gpu_of(device)
    assert gpu is not None
    assert gpu.tflops == peak
    assert gpu_of("GeForce GTX 1080") is None


def test_layers_that_recompute_nothing_keep_everything_and_cost_no_second_pass() -> None:
    kept = {"none": {"activations": 40.0 * GIB}, "selective": {"activations": 8.0 * GIB}, "full": {"activations": GIB}}
    items = memory_items(estimate(kept=kept), config(), ALONE, "selective", 0.25)
    assert items["activations"] == 32 * GIB
    quarter = step_seconds(estimate(), config(), ALONE, "selective", machine_of("H100"), 0.25)
    none = step_seconds(estimate(), config(), ALONE, "none", machine_of("H100"))
    assert quarter is not None
    assert none is not None
    assert quarter[0] - none[0] == pytest.approx(0.25 * 2 * 98.9 / 989)
