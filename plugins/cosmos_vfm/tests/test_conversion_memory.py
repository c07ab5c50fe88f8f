"""Memory of `cosmos convert` and `cosmos export`, measured in their own processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

PEAK = """
import sys
from collections.abc import Iterator
from pathlib import Path
from cosmos_core.cli.main import root_command
from cosmos_core.plugin import PluginManager
root_command(PluginManager.discover())(sys.argv[1:], obj=PluginManager.discover(), standalone_mode=False)
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def peak(*arguments: str) -> float:
    """Peak memory of a command in MiB; rusage would include that of this process."""
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model_or_the_shard(tmp_path: Path) -> None:
    """Fourteen tensors of 32 MiB in one shard need hardly more than six, to convert and to export.

    Pages of mapped files count while the system has room for them, which it has more or less of.
    """
    peaks: dict[str, list[float]] = {"convert": [], "export": []}
    for count in (6, 14):
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
