"""Runs on two accelerators through NCCL train as one does, and a checkpoint of two goes on with one.

Run them where there are two: ``python -m pytest tests/gpu``.
"""

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
from tests.command import losses, metric_records, module
from tests.physics import write_physics
from tests.tiny_reasoner import write_reasoner

SMALL = NetworkConfig(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=32, mlp=96, vocab=512)
SAMPLES = (
    SequenceSpec(tuple(range(3, 12)), (1, 4, 6), 24.0, 0),
    SequenceSpec(tuple(range(40, 61)), (5, 4, 4), 5.0, 1),
    SequenceSpec(tuple(range(7, 20)), (3, 6, 4), 30.0, 0),
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two accelerators here, which this needs"),
]
BOUND = 1e-3
"""Relative, float32: other kernels for other shapes, through four updates."""
SHORT = (
    "trainer.max_iter=4",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[1]",
    "trainer.validation_iter=2",
    "checkpoint.save_iter=2",
    "model.compile.enabled=false",
    "model.precision=float32",
    "dataloader_train.num_workers=0",
)
GENERATOR = ("trainer.callbacks.every_n_draw_sample.every_n=0", "dataloader_val.max_samples_per_batch=4")
REASONER = (
    "model.backbone.safetensors_path=null",
    "model.video_min_pixels=1024",
    "dataloader_train.max_sequence_length=null",
)
SHARDED = ("--nproc", "2", "model.parallelism.data_parallel_shard_degree=2")
REPLICATED = (
    *("--nproc", "2"),
    "model.parallelism.data_parallel_shard_degree=1",
    "model.parallelism.data_parallel_replicate_degree=2",
)
ALONE = ("--nproc", "1", "model.parallelism.data_parallel_shard_degree=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    module("cosmos_core", "data", "prepare", "bridge", "--synthetic", "40", "--val", "8", "-o", str(root / "bridge"))
    write_reasoner(root / "reasoner")
    write_physics(root / "physics", train=16, val=4)
    return root


def train(place: Path, recipe: str, name: str, *more: str) -> Path:
    """A short run; eight samples a step, however they are shared out."""
    own = (*REASONER, f"model.backbone.model_name={place / 'reasoner'}") if recipe.startswith("videophy") else GENERATOR
    share = 8 // int(more[more.index("--nproc") + 1])
    module(
        "cosmos_core",
        *("run", recipe, f"job.name={name}", "job.project=two", "job.group=gpu", "--output-root", str(place / "runs")),
        *(*SHORT, *own, f"dataloader_train.max_samples_per_batch={share}", "trainer.grad_accum_iter=1", *more),
        env={"DATASET_PATH": str(place / "bridge"), "VIDEOPHYSICS_ROOT": str(place / "physics")},
    )
    return place / "runs/two/gpu" / name


@pytest.fixture(scope="module", params=["vision_sft_demo", "videophy2_sft_nano"])
def alone(request: pytest.FixtureRequest, place: Path) -> tuple[str, Path]:
    return request.param, train(place, request.param, f"{request.param}_alone", *ALONE)


def same(first: Path, second: Path) -> None:
    ours, theirs = losses(first), losses(second)
    assert ours.keys() == theirs.keys() == {1, 2, 3, 4}
    for step, figures in ours.items():
        assert figures == pytest.approx(theirs[step], rel=BOUND), step
    scores = [[record["val_loss"] for record in metric_records(run) if "val_loss" in record] for run in (first, second)]
    assert scores[0] == pytest.approx(scores[1], rel=BOUND)
    assert len(scores[0]) == len(scores[1])


@pytest.mark.parametrize("shares", [SHARDED, REPLICATED], ids=["sharded", "replicated"])
def test_two_devices_train_as_one_does(place: Path, alone: tuple[str, Path], shares: tuple[str, ...]) -> None:
    recipe, expected = alone
    same(train(place, recipe, f"{recipe}_{shares[-1][-20:-2]}", *shares), expected)


def gradients(context: ContextGroup | None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    network = Cosmos3Network(SMALL, "two_way").cuda()
    network.context = context
    tokens = torch.randn(sum(sample.latent_tokens for sample in SAMPLES), 192)
    velocity = network(
        tokens.cuda(), torch.tensor([0.2, 0.5, 0.8]).cuda(), pack_inputs(SAMPLES).to(torch.device("cuda"))
    )
    velocity.square().sum().backward()
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


def split(rank: int, folder: str) -> None:
    """Gradients averaged over the devices, as sharding does it."""
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = gradients(ContextGroup(dist.group.WORLD, rank, 2))
    for value in found.values():
        dist.all_reduce(value, dist.ReduceOp.AVG)
    if rank == 0:
        torch.save({name: value.cpu() for name, value in found.items()}, f"{folder}/found.pt")
    dist.destroy_process_group()


def test_two_devices_that_split_one_pack_have_its_gradients(tmp_path: Path) -> None:
    mp.spawn(split, (str(tmp_path),), nprocs=2)
    found, expected = torch.load(tmp_path / "found.pt", weights_only=True), gradients(None)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float((found[name] - value.cpu()).norm()) <= BOUND * float(value.norm()) + 1e-9, name


def test_what_two_devices_saved_goes_on_with_one(place: Path, alone: tuple[str, Path]) -> None:
    recipe, expected = alone
    train(place, recipe, f"{recipe}_again", *SHARDED, "trainer.max_iter=2")
    same(train(place, recipe, f"{recipe}_again", *ALONE), expected)
