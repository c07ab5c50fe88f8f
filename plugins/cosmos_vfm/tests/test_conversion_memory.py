"""Memory of `cosmos convert` and `cosmos export`, measured in their own processes."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file


def peak(*arguments: str) -> float:
    """Highest memory of a command's own in MiB, looked at every 2 ms.

    Pages of mapped files are left out: they stay as long as the system has room for them.
    """
    highest = 0
    command = [sys.executable, "-m", "cosmos_core", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):  # It has just ended.
                memory = watched.memory_info()
                highest = max(highest, memory.rss - memory.shared)
            time.sleep(0.002)
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()
    return highest / 2**20


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model_or_the_shard(tmp_path: Path) -> None:
    """Of 32 MiB each: fourteen tensors in one shard need hardly more than eight, which fill a group read at once."""
    peaks: dict[str, list[float]] = {"convert": [], "export": []}
    for count in (8, 14):
        root = tmp_path / f"model{count}"
        root.mkdir()
        shapes = {f"layers.{index}.self_attn.add_q_proj.weight": (2048, 4096) for index in range(count)}
        shapes |= {"embed_tokens.weight": (8, 4096), "layers.0.self_attn.norm_added_k.weight": (128,)}
        shapes |= {
            "layers.0.self_attn.add_k_proj.weight": (128, 4096),
            "layers.0.mlp_moe_gen.up_proj.weight": (8, 4096),
        }
        save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, root / "model.safetensors")
        base = str(tmp_path / f"base{count}")
        peaks["convert"].append(peak("convert", str(root), "-o", base))
        export = ("export", base, "--task", "vfm", "-o", f"{base}.out", "--dtype", "bfloat16", "--verify")
        peaks["export"].append(peak(*export))
    assert all(large - small < 96 for small, large in peaks.values()), peaks
