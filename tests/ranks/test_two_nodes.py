"""Two launchers with one rendezvous: one run over two machines, and nodes that do not fit together."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.command import Start, cosmos, losses

RUN = (
    "run",
    "hello",
    "trainer.max_iter=6",
    "scheduler.cycle_lengths=[6]",
    "checkpoint.save_iter=100",
    "dataloader_train.max_samples_per_batch=8",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nodes(
    root: Path, start: Start, second: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> list[tuple[int, str]]:
    """Exit code and stderr of two nodes of one rank each; `second` and `env` are for the second alone."""
    port = free_port()
    processes = [
        start(
            *("--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node)),
            *("--master-addr", "127.0.0.1", "--master-port", str(port)),
            *("-m", "cosmos_core", *RUN, *(second if node else ()), "--output-root", str(root)),
            module="torch.distributed.run",
            env=env if node else None,
        )
        for node in (0, 1)
    ]
    told = [process.communicate(timeout=240)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, told, strict=True)]


@pytest.mark.ranks
def test_two_nodes_of_one_rank_equal_one_node_of_two(tmp_path: Path, start: Start) -> None:
    first, second = nodes(tmp_path / "nodes", start)
    assert (first[0], second[0]) == (0, 0), first[1] + second[1]
    cosmos(*RUN, "--nproc", "2", "--output-root", str(tmp_path / "node"))
    two, one = (losses(tmp_path / name / "cosmos3/sft/hello") for name in ("nodes", "node"))
    assert len(two) == 6
    assert two == one


OTHER_VERSION = """
import sys

if "run" in sys.orig_argv and "torch.distributed.run" not in sys.orig_argv:
    from cosmos_core.plugin.manager import PluginManager

    PluginManager.distributions = property(lambda self: {"cosmos-core": "0.0.7"})
"""


@pytest.mark.ranks
def test_a_node_with_another_configuration_and_version_is_refused_by_name(tmp_path: Path, start: Start) -> None:
    (tmp_path / "sitecustomize.py").write_text(OTHER_VERSION)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    first, second = nodes(tmp_path / "runs", start, ("optimizer.lr=0.5",), {"PYTHONPATH": paths})
    for code, told in (first, second):
        assert code == 1, "torchrun's own exit code"
        assert "the ranks differ in configuration or versions; nothing was started" in told
        assert f"rank 1 on {socket.gethostname()}: optimizer.lr 0.01 -> 0.5, " in told, told
        assert ", cosmos-core 0.1.0 -> 0.0.7, " in told
    assert not list(tmp_path.glob("runs/cosmos3/sft/hello/checkpoints/*"))
