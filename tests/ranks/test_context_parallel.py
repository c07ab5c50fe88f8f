"""Processes that split one pack train as one process does, whatever the lengths in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from cosmos_core.distributed import ContextGroup
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.packing import SequenceSpec, pack_inputs
from cosmos_vfm.sizes import NetworkConfig
from tests.command import cosmos, losses, metric_records

SMALL = NetworkConfig(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=32, mlp=96, vocab=512)
SAMPLES = (
    SequenceSpec(tuple(range(3, 12)), (1, 4, 6), 24.0, 0),
    SequenceSpec(tuple(range(40, 61)), (5, 4, 4), 5.0, 1),
    SequenceSpec(tuple(range(7, 20)), (3, 6, 4), 30.0, 0),
)
SHORT = (
    "trainer.max_iter=3",
    "scheduler.cycle_lengths=[3]",
    "scheduler.warm_up_steps=[1]",
    "trainer.validation_iter=3",
    "trainer.callbacks.every_n_draw_sample.steps=2",
    "trainer.callbacks.every_n_draw_sample.count=2",
    "dataloader_train.max_samples_per_batch=5",
    "dataloader_val.max_samples_per_batch=4",
)


def gradients(context: ContextGroup | None, backend: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    network = Cosmos3Network(SMALL, backend)
    network.context = context
    tokens = torch.randn(sum(sample.latent_tokens for sample in SAMPLES), 192)
    velocity = network(tokens, torch.tensor([0.2, 0.5, 0.8]), pack_inputs(SAMPLES))
    velocity.square().sum().backward()
    found = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    return {"velocity": velocity.detach(), **found}


def split(rank: int, size: int, backend: str, folder: str) -> None:
    """Gradients averaged over the processes, as sharding does it."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    found = gradients(ContextGroup(dist.group.WORLD, rank, size), backend)
    for name, value in found.items():
        if name != "velocity":
            dist.all_reduce(value)
            value /= size
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    dist.destroy_process_group()


@pytest.mark.ranks
@pytest.mark.parametrize(("size", "backend"), [(2, "two_way"), (4, "two_way"), (2, "three_way")])
def test_every_parameter_gets_its_true_gradient(size: int, backend: str, tmp_path: Path) -> None:
    """Four processes share two key-value heads, so these are repeated. Bound: 1e-5 relative, float32."""
    mp.spawn(split, (size, backend, str(tmp_path)), nprocs=size)
    found, expected = torch.load(tmp_path / "found.pt", weights_only=True), gradients(None, backend)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float((found[name] - value).norm()) <= 1e-5 * float(value.norm()) + 1e-9, name


@pytest.mark.ranks
def test_a_run_on_three_context_peers_equals_one_process(tmp_path: Path) -> None:
    """Bound: 1e-4 relative, float32 sums in another order through three updates."""
    data = tmp_path / "data"
    cosmos("data", "prepare", "bridge", "--synthetic", "16", "--val", "4", "-o", str(data))

    def train(name: str, *more: str) -> Path:
        arguments = ("run", "vision_sft_demo", "--output-root", str(tmp_path), f"job.name={name}", *SHORT, *more)
        cosmos(*arguments, env={"DATASET_PATH": str(data)})
        return tmp_path / "cosmos3/sft" / name

    peers = train("peers", "--nproc", "3", "model.parallelism.context_parallel_shard_degree=3")
    alone = train("alone")
    assert losses(peers).keys() == losses(alone).keys() == {1, 2, 3}
    for step, figures in losses(peers).items():
        assert figures == pytest.approx(losses(alone)[step], rel=1e-4)
    ours, theirs = (
        [record["val_loss"] for record in metric_records(run) if "val_loss" in record] for run in (peers, alone)
    )
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_heads_that_do_not_divide_are_refused_with_the_degrees_that_do(tmp_path: Path) -> None:
    data = tmp_path / "data"
    cosmos("data", "prepare", "bridge", "--synthetic", "4", "--val", "2", "-o", str(data))
    wanted = ("--nproc", "2", "--dry-run", "model.parallelism.context_parallel_shard_degree=2")
    said = cosmos("run", "vision_sft_demo", *wanted, env={"DATASET_PATH": str(data)}, code=2).stderr
    assert "does not divide the 3 heads" in said
    assert "set it to one of 1, 3" in said
