"""The copy that a background save is made of, and the process that writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cosmos_core.checkpoint.background import BackgroundSaver
from cosmos_core.checkpoint.job import SaveJob
from cosmos_core.checkpoint.staging import size_of
from cosmos_core.config.run import CheckpointConfig
from cosmos_core.distributed import local_mesh
from cosmos_core.distributed.host_memory import free_host_memory
from cosmos_core.plan.paths import RunPaths

MESH = local_mesh(torch.device("cpu"))


def state() -> dict[str, Any]:
    torch.manual_seed(0)
    tied = torch.randn(3, 5)
    model = {"net.weight": torch.randn(130, 7), "net.half": torch.randn(33).bfloat16(), "net.empty": torch.empty(0, 4)}
    callbacks = {"mine": {"count": torch.tensor(3), "notes": ["a", torch.ones(2)]}}
    return {
        "model": {**model, "net.scalar": torch.tensor(2.5), "net.tied": tied, "net_ema.tied": tied},
        "trainer": {"iteration": 3, "callbacks": callbacks},
    }


def job(root: Path, step: int) -> SaveJob:
    return SaveJob(
        paths=RunPaths(root), config=CheckpointConfig(), step=step, loader={"read": step}, base=None, launch=None
    )


def test_what_changes_right_after_the_call_is_saved_as_it_was(tmp_path: Path) -> None:
    expected = job(tmp_path / "expected", 1).carry_out(state(), MESH)
    components = state()
    saver = BackgroundSaver(components, MESH, "saves")
    try:
        saver.begin(job(tmp_path / "run", 1), components, at_once=())
        saver.before_change()
        for tensor in components["model"].values():
            tensor.add_(1)
        components["trainer"]["callbacks"]["mine"]["count"].add_(1)
        components["trainer"]["callbacks"]["mine"]["notes"].append("b")
        reply = saver.result()
        assert not reply.failed, reply
        written = RunPaths(tmp_path / "run").iteration(1)
        for path in expected.rglob("*.distcp"):
            assert (written / path.relative_to(expected)).read_bytes() == path.read_bytes(), path
        (tmp_path / "full").write_text("a file where checkpoints belong")
        saver.begin(job(tmp_path / "full", 2), components, at_once=())
        refused = saver.result()
        assert refused.crash is None
        assert "step 2 could not be written" in str(refused.error)
        assert [record.getMessage().split(";")[-1] for record in refused.records] == [" trying once more"]
        assert not saver.fits({**components, "more": {"large": torch.empty(1 << 20)}})
    finally:
        saver.close()


def test_the_memory_for_the_copy_is_as_large_as_the_state(tmp_path: Path) -> None:
    components = {"model": {"a": torch.zeros(16), "b": torch.zeros(3, dtype=torch.bfloat16)}}
    assert size_of(components) == 16 * 4 + 3 * 2
    free = free_host_memory(tmp_path)
    limits = {"memory.max": "5000", "memory.current": "3000", "memory.stat": "anon 5\nactive_file 7\ninactive_file 11"}
    for name, text in limits.items():
        (tmp_path / name).write_text(text + "\n")
    assert free_host_memory(tmp_path) == 2018
    (tmp_path / "memory.max").write_text("max\n")
    assert free_host_memory(tmp_path) > free / 2
