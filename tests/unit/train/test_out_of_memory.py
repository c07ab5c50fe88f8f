"""A GPU's memory that runs out is told on one page, and costs no checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cosmos_core.builtin.tiny.family import TinyFamily
from cosmos_core.config import RunConfig
from cosmos_core.errors import UserError
from cosmos_core.launch.train import train
from cosmos_core.plan.checkpoint import latest_complete
from cosmos_core.plan.costs import GIB, Estimate, ParameterCounts
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plugin import PluginManager

SETTINGS = (
    "trainer.max_iter=6",
    "scheduler.cycle_lengths=[6]",
    "scheduler.warm_up_steps=[1]",
    "checkpoint.save_iter=2",
    "model.activation_checkpointing.mode=auto",
    "model.ema.enabled=true",
)
ASKED = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.19 GiB of which 3 are free."


def _estimate(config: RunConfig) -> Estimate:
    """A network of 1.2 billion parameters."""
    count = 1_200_000_000
    return Estimate(
        parameters=ParameterCounts(
            trained=count, frozen=0, root=count // 4, root_trained=count // 4, unit=count // 4, unit_trained=count // 4
        ),
        sample="points",
        samples=4,
        tokens=100,
        kept={"none": {"activations": 40.0 * GIB}, "selective": {"activations": 9 * GIB}, "full": {"activations": GIB}},
        working=dict.fromkeys(("none", "selective", "full"), 0.5 * GIB),
        flops=1e12,
        recomputed={mode: {} for mode in ("none", "selective", "full")},
        width=4096,
        utilisation=(0.4, 0.5),
    )


def test_memory_that_runs_out_in_a_step_is_told_beside_the_plan_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = PluginManager.discover()
    monkeypatch.setattr(TinyFamily, "estimate", classmethod(lambda cls, config, *rest: _estimate(config)))
    step, calls = TinyFamily.training_step, []

    def fails_in_the_fourth(self: TinyFamily, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise torch.OutOfMemoryError(ASKED)
        return step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TinyFamily, "training_step", fails_in_the_fourth)
    with pytest.raises(UserError) as raised:
        train("hello", SETTINGS, output_root=tmp_path, plugins=plugins)
    error, paths = raised.value, RunPaths(tmp_path / "cosmos3/sft/hello")
    latest = latest_complete(paths.checkpoints)
    assert latest is not None
    assert latest.name == "iter_000000002"
    assert error.title == f"the GPU's memory ran out; the last checkpoint is intact: {latest}"
    asked, planned, *settings = error.problems
    assert asked.message == "CUDA out of memory. Tried to allocate 20.00 GiB"
    assert "activations 40.0" in planned.message
    # The mode that 'auto' took on the CPU is 'none'; the three that save most come in their order.
    assert [setting.key for setting in settings] == [
        "model.activation_checkpointing.mode=selective",
        "model.activation_checkpointing.mode=none model.activation_checkpointing.parts=2",
        "--nproc 2",
    ]
    assert all(setting.message.startswith("saves about ") for setting in settings)
    assert 31 < float(settings[0].message.split()[2]) < 34
    assert paths.outcome.read_text(encoding="utf-8").count('"refused"') == 1
