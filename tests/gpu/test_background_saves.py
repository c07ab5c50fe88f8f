"""A save in the background holds what the tensors were, although the device changes them right after the call.

Run it where there is an accelerator: ``python -m pytest tests/gpu``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import load

from cosmos_core.checkpoint.background import BackgroundSaver
from cosmos_core.checkpoint.job import SaveJob
from cosmos_core.config.run import CheckpointConfig
from cosmos_core.distributed import local_mesh
from cosmos_core.plan.paths import RunPaths

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here, which tests/gpu needs"),
]
BUFFER = "net.buffer"


def job(root: Path, step: int) -> SaveJob:
    return SaveJob(paths=RunPaths(root), config=CheckpointConfig(), step=step, loader={}, base=None, launch=None)


def on_host(components: dict[str, Any]) -> dict[str, Any]:
    return {part: {name: value.cpu() for name, value in values.items()} for part, values in components.items()}


def test_what_the_device_changes_right_after_the_call_is_saved_as_it_was(tmp_path: Path) -> None:
    mesh = local_mesh()
    model = {f"net.{number}": torch.randn(64 << 20, device="cuda") for number in range(8)}
    components = {
        "model": {**model, BUFFER: torch.randn(4096, device="cuda")},
        "optim": {"step": torch.tensor(1.0, device="cuda"), "half": torch.randn(999, device="cuda").bfloat16()},
    }
    saver = BackgroundSaver(components, mesh, "saves")
    try:
        for step in (1, 2):  # Its memory is used again.
            before = on_host(components)
            saver.begin(job(tmp_path / "run", step), components, at_once={BUFFER})
            components["model"][BUFFER].add_(1)  # As a forward pass may.
            torch.cuda.set_sync_debug_mode("error")
            saver.before_change()
            for tensor in (*model.values(), *components["optim"].values()):
                tensor.add_(1)
            torch.cuda.set_sync_debug_mode("default")
            deadline = time.monotonic() + 60
            while not saver.finished:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert not saver.result().failed
            for part, values in before.items():
                written = {name: torch.empty_like(value) for name, value in values.items()}
                load(written, checkpoint_id=RunPaths(tmp_path / "run").iteration(step) / part, no_dist=True)
                for name, value in values.items():
                    assert torch.equal(written[name], value), name
    finally:
        torch.cuda.set_sync_debug_mode("default")
        saver.close()
