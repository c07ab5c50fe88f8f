"""Memory, time and disk that a run takes: arithmetic over what a model family says of one micro-batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from attrs import evolve, frozen

from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import CheckpointConfig, DataloaderConfig, RunConfig
from cosmos_core.plan.gpus import GPUS, Machine
from cosmos_core.plan.plan import Degrees

__all__ = [
    "AUTO",
    "GIB",
    "MODES",
    "Estimate",
    "checkpoint_bytes",
    "checkpoints_kept",
    "memory_items",
    "overlong_notes",
    "peak",
    "staging_bytes",
    "step_seconds",
    "usual_samples",
]

GIB = 2**30
MODES = ("none", "selective", "full")
"""Of recomputation, the fastest first."""
AUTO: Final = "auto"
"""Stands for what the plan finds out."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
RESERVE = 0.05
"""Of what comes and goes in a step, the share that the allocator holds beside it. Fitted to the "card" rows of
test_estimate.py and test_estimate_reasoner.py (H100, H200, torch 2.11); tests/benchmarks/memory_table.py fits anew.
"""
RESERVE_BEFORE = 0.8
"""The same of what comes before the forward pass, whose blocks are of other sizes. One "card" row holds it."""
CONTEXT, COLLECTIVES = 1.0 * GIB, 0.8 * GIB
"""The driver's own memory, and NCCL's buffers: usual sizes, not measured by themselves."""
GATHERED_UNITS = 2
"""Units whose weights are gathered at once: the one that runs and the next, which FSDP gathers ahead."""
ADAM_BYTES, AVERAGE_BYTES, NORM_BYTES = 28, 12, 4
"""Read and written a trained parameter: weight and two moments both ways, and the gradient; weight and average; the
gradient. All in float32.
"""
OTHER_SPREAD, UPDATE_SPREAD = (0.9, 1.2), (1.0, 1.5)
"""Of the measured seconds of further work, and of the bytes of an update at full bandwidth: least and most."""
COMMUNICATION_SLOWDOWN = 0.9
"""Of the time that weights take to be exchanged, what computation loses beside it: from packs in one, three and four
parts on four H100 (tests/benchmarks/RESULTS.md).
"""
MIN_WIDTH = 1024
"""Narrower layers wait for their launches, so that no share of the peak holds."""
REFERENCE = GPUS["H100-80GB"].tflops


@frozen(kw_only=True)
class ParameterCounts:
    """trained, frozen: of the network. root, root_trained: outside of the units of sharding.

    unit, unit_trained: of the largest unit.
    """

    trained: int
    frozen: int
    root: int
    root_trained: int
    unit: int
    unit_trained: int


@frozen(kw_only=True)
class Estimate:
    """What a full micro-batch costs on one process; weights are counted whole, sharding comes later.

    sample: what a typical sample is, for people. samples, tokens: in a micro-batch. kept: bytes from forward to
    backward, by mode and by item. held: the same, as much for a part of it. working: bytes that the backward pass of a
    layer takes beside, by mode. loss: bytes while the loss is computed. fixed: bytes that are there all the time, by
    item. before: bytes at most before the forward pass. fragmented: bytes that the allocator keeps in blocks which fit
    nothing. flops: of forward and backward, without recomputation. recomputed: FLOPs, by mode and by item of `kept`.
    layers: of each item, in the network's order, of which the first recompute under a share; empty: all items recompute
    alike. other_seconds: of further work, on an H100. host_seconds: that the host takes to launch the micro-batch's
    kernels. core_seconds: to read and prepare the micro-batch on one CPU core. width: of the hidden states.
    utilisation: least and most of a GPU's peak that all FLOPs run at, where that was measured. notes: lines for people.
    adapters: whether nothing but adapters trains.
    """

    parameters: ParameterCounts
    sample: str
    samples: float
    tokens: float
    kept: Mapping[str, Mapping[str, float]]
    working: Mapping[str, float]
    held: Mapping[str, float] = {}
    loss: float = 0.0
    fixed: Mapping[str, float] = {}
    before: float = 0.0
    fragmented: float = 0.0
    flops: float
    recomputed: Mapping[str, Mapping[str, float]]
    layers: Mapping[str, int] = {}
    other_seconds: float = 0.0
    host_seconds: float = 0.0
    core_seconds: float = 0.0
    width: int
    utilisation: tuple[float, float] | None
    notes: tuple[str, ...] = ()
    adapters: bool = False

    def recomputing(self, share: float) -> dict[str, float]:
        """Share of each item that recomputes when the first `share` of all layers does."""
        shares = dict.fromkeys(self.kept["none"], share)
        left = share * sum(self.layers.values())
        for name, number in self.layers.items():
            shares[name] = min(1.0, left / number)
            left -= number * shares[name]
        return shares

    def in_parts(self, parts: int) -> Estimate:
        """Of a part of the micro-batch. What is encoded at once stays, and the chunk of a loss."""

        def divided(items: Mapping[str, float]) -> dict[str, float]:
            return {name: value / parts for name, value in items.items()}

        return evolve(
            self,
            samples=self.samples / parts,
            tokens=self.tokens / parts,
            kept={mode: divided(items) for mode, items in self.kept.items()},
            working=divided(self.working),
            fragmented=self.fragmented / parts,
            flops=self.flops / parts,
            recomputed={mode: divided(items) for mode, items in self.recomputed.items()},
            other_seconds=self.other_seconds / parts,
            core_seconds=self.core_seconds / parts,
        )

    def recomputed_flops(self, mode: str, share: float) -> float:
        """Of a micro-batch, when the first `share` of the layers recomputes."""
        shares = self.recomputing(share)
        return sum(shares[name] * value for name, value in self.recomputed[mode].items())


def memory_items(
    estimate: Estimate, config: RunConfig, degrees: Degrees, mode: str, recomputing: float = 1.0, parts: int = 1
) -> dict[str, float]:
    """Bytes on each GPU at the moment of a step that takes most, by item; they add up to what the card must have.

    mode: of recomputation. recomputing: share of the layers that recompute. parts: in which a pack is computed.
    """
    estimate = estimate.in_parts(parts)
    # Parts are of whole samples, so that one has more than the others.
    largest = math.ceil(estimate.samples) / estimate.samples if parts > 1 else 1.0
    model = config.model
    master, compute = BYTES[model.parallelism.fsdp_master_dtype], BYTES[model.precision]
    reduced = _reduced_bytes(model)
    share = 1 / (degrees.shard * degrees.context)
    always = {
        f"trained weights, {model.parallelism.fsdp_master_dtype}": estimate.parameters.trained * master * share,
        f"frozen weights, {model.precision}": estimate.parameters.frozen * compute * share,
        "Adam moments": 2 * estimate.parameters.trained * master * share,
        "average": estimate.parameters.trained * 4 * share if model.ema.enabled else 0.0,
        "gathered weights": (estimate.parameters.root + GATHERED_UNITS * estimate.parameters.unit) * compute,
        **estimate.fixed,
    }
    gradients = estimate.parameters.trained * master * share
    accumulated = gradients if config.trainer.grad_accum_iter * parts > 1 else 0.0
    whole, shares = estimate.kept["none"], estimate.recomputing(recomputing)
    kept = {
        name: (shares[name] * value + (1 - shares[name]) * whole[name]) * largest / degrees.context
        for name, value in estimate.kept[mode].items()
    }
    of_unit, of_root = estimate.parameters.unit_trained * reduced, estimate.parameters.root_trained * reduced
    buffers = estimate.parameters.unit_trained * compute + of_unit
    working = max(estimate.working[mode] * largest / degrees.context + buffers, estimate.loss)
    reserve = "allocator reserve"
    moments: tuple[dict[str, float], ...] = (
        {
            "gradients": accumulated,
            **estimate.held,
            **kept,
            "backward of a layer": working,
            reserve: estimate.fragmented / degrees.context,
        },
        {
            "gradients": gradients,
            "gradients before they are sharded": estimate.parameters.root_trained * compute + of_root,
        },
        {"gradients": accumulated, "before the forward pass": estimate.before},
    )
    passing = max(moments, key=lambda items: sum(items.values()))
    idle = 0.0
    if degrees.shard * degrees.context > 1:
        # The allocator keeps memory for each stream: what the one that reduces gradients frees serves no activations.
        reducing = gradients - accumulated + of_root
        computing = max(sum(moments[0].values()) - of_unit, accumulated + estimate.parameters.root_trained * compute)
        idle = max(0.0, computing + max(reducing, of_unit) - sum(passing.values()))
    fragmented = passing.pop(reserve, 0.0)
    held = RESERVE * (sum(passing.values()) + always["gathered weights"]) + RESERVE_BEFORE * estimate.before + idle
    context = CONTEXT + (COLLECTIVES if degrees.world > 1 else 0.0)
    items = {**always, **passing, reserve: held + fragmented, "CUDA context": context}
    return {name: value for name, value in items.items() if value}


def peak(items: Mapping[str, float]) -> float:
    """GiB on each GPU."""
    return sum(items.values()) / GIB


def step_seconds(
    estimate: Estimate,
    config: RunConfig,
    degrees: Degrees,
    mode: str,
    machine: Machine,
    recomputing: float = 1.0,
    parts: int = 1,
) -> tuple[float, float] | None:
    """Seconds of an optimizer step, least and most; None where no rate is known: of the GPU, or of so small a model."""
    gpu, estimate = machine.gpu, estimate.in_parts(parts)
    if gpu is None or estimate.utilisation is None or estimate.width < MIN_WIDTH:
        return None
    arithmetic = (estimate.flops + estimate.recomputed_flops(mode, recomputing)) / degrees.context / (gpu.tflops * 1e12)
    moved = ADAM_BYTES + NORM_BYTES + (AVERAGE_BYTES if config.model.ema.enabled else 0)
    update = moved * estimate.parameters.trained / (degrees.shard * degrees.context) / gpu.bandwidth
    other = estimate.other_seconds / degrees.context * REFERENCE / gpu.tflops
    passes = config.trainer.grad_accum_iter * parts
    slow, fast = estimate.utilisation
    exchanged, copied = _exchanged_bytes(estimate, config, degrees), _copied_bytes(estimate, config, degrees)
    least, most = (
        # Kernels are launched while others compute, so that the slower of these counts.
        passes
        * (
            max(
                arithmetic / share + COMMUNICATION_SLOWDOWN * exchanged / link + copied / gpu.bandwidth,
                spread * estimate.host_seconds,
            )
            + spread * other
        )
        + times * update
        for share, link, spread, times in zip((fast, slow), gpu.link, OTHER_SPREAD, UPDATE_SPREAD, strict=True)
    )
    return least, most


def _reduced_bytes(model: ModelConfig) -> int:
    """Of a gradient while it is reduced."""
    return BYTES[model.parallelism.fsdp_reduce_dtype or model.parallelism.fsdp_master_dtype]


def _exchanged_bytes(estimate: Estimate, config: RunConfig, degrees: Degrees) -> float:
    """That a process gets from those that share the weights, in a micro-batch, at the least.

    Weights forward and backward, frozen ones of the same units too, and gradients.
    """
    model, processes = config.model, degrees.shard * degrees.context
    reduced = _reduced_bytes(model)
    parameters = estimate.parameters
    gathered = 2 * (parameters.trained + parameters.frozen) * BYTES[model.precision]
    return (gathered + parameters.trained * reduced) * (1 - 1 / processes)


def _copied_bytes(estimate: Estimate, config: RunConfig, degrees: Degrees) -> float:
    """Read and written beside what a process exchanges in a micro-batch: computation waits for these copies.

    Gathered weights leave the buffer of the exchange, forward and backward, and gradients enter it in another dtype.
    """
    model, parameters = config.model, estimate.parameters
    if degrees.shard * degrees.context == 1:
        return 0.0
    compute = BYTES[model.precision]
    reduced = _reduced_bytes(model)
    return 4 * (parameters.trained + parameters.frozen) * compute + parameters.trained * (compute + reduced)


def checkpoint_bytes(estimate: Estimate, config: RunConfig) -> float:
    """Of one checkpoint: weights, moments, average; only what trains where frozen weights are left to the base."""
    master = BYTES[config.model.parallelism.fsdp_master_dtype]
    average = 4 if config.model.ema.enabled else 0
    on_base = config.model.init == "pretrained" or bool(config.checkpoint.load_path)
    left_out = on_base and config.checkpoint.leaves_frozen(adapters_alone=estimate.adapters)
    frozen_bytes = 0 if left_out else estimate.parameters.frozen * BYTES[config.model.precision]
    return float(frozen_bytes + estimate.parameters.trained * (3 * master + average))


def staging_bytes(estimate: Estimate, config: RunConfig, degrees: Degrees) -> float:
    """Of pinned host memory that each process needs to save while training goes on; 0 where no save does."""
    checkpoint = config.checkpoint
    before_end = checkpoint.save_iter < config.trainer.max_iter or checkpoint.save_every_minutes is not None
    share = 1 / (degrees.shard * degrees.context)
    return checkpoint_bytes(estimate, config) * share if checkpoint.async_save and before_end else 0.0


def checkpoints_kept(config: CheckpointConfig, steps: int, hours: float | None = None) -> int:
    """Most checkpoints on the disk at once over a run of so many steps; the newest is written before one is removed.

    hours: that it takes, where that is known; for those that are saved by the clock.
    """
    saves = math.ceil(steps / config.save_iter)
    if hours is not None and config.save_every_minutes is not None:
        saves = min(steps, saves + int(60 * hours / config.save_every_minutes))
    if config.keep_last is None:
        return saves
    every = steps // config.keep_every if config.keep_every is not None else 0
    return min(saves, config.keep_last + every + config.keep_best.count + 1)


def overlong_notes(loader: DataloaderConfig, tokens: int, cap: int | None = None) -> tuple[str, ...]:
    """What training does with samples of so many tokens, if they are longer than a pack. cap: the family's."""
    limits = [limit for limit in (loader.max_sequence_length, cap) if limit is not None]
    if not limits or tokens < min(limits) + (loader.packing == "pool"):
        return ()
    does = {"error": "ends at the first such sample", "skip": "leaves such samples out"}
    action = does.get(loader.overlong, "makes such samples shorter")
    length = f"a usual sample takes {tokens:,} tokens and a pack {min(limits):,} (max_sequence_length)"
    return (f"warning: {length}, so training {action} (overlong = {loader.overlong})",)


def usual_samples(loader: DataloaderConfig, tokens: int, cap: int | None = None) -> float:
    """Samples of so many tokens in a full micro-batch, at least one. cap: the family's on tokens."""
    limits = [limit / tokens for limit in (loader.max_sequence_length, cap) if limit is not None]
    if loader.max_samples_per_batch is not None:
        limits.append(loader.max_samples_per_batch)
    return max(1.0, min(limits))
