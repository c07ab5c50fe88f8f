"""What two ranks save in the background is what they save while everything waits, and no lost saver holds them up."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_core.plan.checkpoint import latest_complete
from cosmos_core.plan.manifest import verify
from tests.command import Start, cosmos, losses
from tests.ranks.test_hangs import injected

RUN = (
    "run",
    "hello",
    *(
        "trainer.max_iter=5",
        "scheduler.cycle_lengths=[5]",
        "scheduler.warm_up_steps=[1]",
        "trainer.run_validation=false",
        "checkpoint.save_iter=2",
    ),
    *("model.hidden=512", "model.layers=4", "model.ema.enabled=true"),
)


@pytest.mark.ranks
def test_two_ranks_save_the_same_bytes_in_the_background(tmp_path: Path) -> None:
    checkpoints = {}
    for background in ("true", "false"):
        options = (f"checkpoint.async_save={background}", "--output-root", str(tmp_path / background))
        printed = cosmos(*RUN, *options, "--nproc", "2")
        assert printed.stderr.count("in the background") == (4 if background == "true" else 0)
        checkpoints[background] = tmp_path / background / "cosmos3/sft/hello/checkpoints"
    for step in (2, 4, 5):
        saved, expected = (checkpoints[name] / f"iter_{step:09d}" for name in ("true", "false"))
        shards = sorted(expected.glob("[mo]*/*.distcp"))
        assert len(shards) == 4
        for path in shards:
            assert (saved / path.relative_to(expected)).read_bytes() == path.read_bytes(), path


KILLED = """
import os, signal, sys

if "cosmos_core.checkpoint.saving_process:main" in sys.orig_argv:
    import torch.distributed

    import cosmos_core.checkpoint.saving_process as program

    program.ASSEMBLY = 2.0
    if os.environ["RANK"] == "1":
        torch.distributed.init_process_group = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.ranks
def test_where_a_saver_is_killed_while_it_starts_its_peer_gives_up_and_the_run_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    injected(KILLED, tmp_path, monkeypatch)
    process = start(*RUN, "--output-root", str(tmp_path), "--nproc", "2")
    stderr = process.communicate(timeout=240)[1]
    assert process.returncode == 0, stderr
    assert "the processes that save did not find each other within 2 s; trying once more" in stderr
    run_dir = tmp_path / "cosmos3/sft/hello"
    assert sorted(losses(run_dir)) == [1, 2, 3, 4, 5]
    newest = latest_complete(run_dir / "checkpoints")
    assert newest == run_dir / "checkpoints/iter_000000005"
    assert verify(newest) == []
    assert len(list((run_dir / "checkpoints").glob("iter_*"))) >= 2
