"""With `trainer.deterministic` two runs on one machine are equal to the last bit, whatever computes attention.

Run them where there is a GPU: ``python -m pytest tests/gpu``; the last one needs two. Two runs of one device go at
the same time, and ``-n 3`` goes faster still.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.command import losses, module
from tests.physics import write_physics
from tests.tiny_reasoner import write_reasoner

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here, which tests/gpu needs"),
]
COMMON = (
    "trainer.deterministic=true",
    "trainer.max_iter=4",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[1]",
    "trainer.validation_iter=4",
    "checkpoint.save_iter=4",
    "model.precision=bfloat16",
    "model.activation_checkpointing.mode=selective",
    "dataloader_train.num_workers=2",
    "job.project=twice",
    "job.group=gpu",
)
GENERATOR = ("vision_sft_demo", "trainer.callbacks.every_n_draw_sample.every_n=0")
REASONER = (
    *("videophy2_sft_nano", "model.backbone.safetensors_path=null", "model.video_min_pixels=1024"),
    *("dataloader_train.max_sequence_length=null", "dataloader_train.max_samples_per_batch=4"),
    *("model.parallelism.data_parallel_shard_degree=-1", "model.parallelism.data_parallel_replicate_degree=1"),
)
RUNS = {
    "two_way": (*GENERATOR, "model.compile.enabled=false"),
    "two_way compiled": (*GENERATOR, "model.compile.enabled=true"),
    "three_way": (*GENERATOR, "model.joint_attn_implementation=three_way", "model.compile.enabled=false"),
    "flex": (*GENERATOR, "model.joint_attn_implementation=flex"),
    "float32": (*GENERATOR, "model.precision=float32", "model.compile.enabled=false"),
    "reasoner": (*REASONER, "model.compile.enabled=true"),
    "reasoner sdpa": (*REASONER, "model.attn_implementation=sdpa", "model.compile.enabled=false"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twice")
    prepare = ("data", "prepare", "bridge", "--synthetic", "40", "--val", "4", "-o", str(root / "bridge"))
    module("cosmos_core", *prepare, timeout=100)
    write_reasoner(root / "reasoner")
    write_physics(root / "physics", train=16, val=4)
    return root


def train(place: Path, name: str, command: tuple[str, ...], processes: int) -> Path:
    backbone = (f"model.backbone.model_name={place / 'reasoner'}",) if command[0] == REASONER[0] else ()
    module(
        *("cosmos_core", "run", command[0], f"job.name={name}", "--nproc", str(processes), *COMMON, *command[1:]),
        *(*backbone, "--output-root", str(place / "runs")),
        env={"DATASET_PATH": str(place / "bridge"), "VIDEOPHYSICS_ROOT": str(place / "physics")},
        timeout=150,
    )
    return place / "runs/twice/gpu" / name


def runs_twice_the_same(place: Path, kind: str, processes: int) -> None:
    def one(turn: int) -> Path:
        return train(place, f"{kind}_{processes}_{turn}".replace(" ", "_"), RUNS[kind], processes)

    with ThreadPoolExecutor(2 // processes) as both:
        runs = list(both.map(one, (1, 2)))
    assert sorted(losses(runs[0])) == [1, 2, 3, 4]
    assert losses(runs[0]) == losses(runs[1])
    weights = [sorted((run / "checkpoints/iter_000000004/model").glob("*.distcp")) for run in runs]
    assert len(weights[0]) == processes
    for first, second in zip(*weights, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


@pytest.mark.parametrize("kind", RUNS)
def test_two_runs_are_equal_to_the_last_bit(place: Path, kind: str) -> None:
    runs_twice_the_same(place, kind, 1)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two accelerators here, which this needs")
@pytest.mark.parametrize("kind", ["two_way", "reasoner sdpa"])
def test_two_runs_of_two_devices_are_equal_to_the_last_bit(place: Path, kind: str) -> None:
    runs_twice_the_same(place, kind, 2)
