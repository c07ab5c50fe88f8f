"""What two ranks save in the background is what they save while everything waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import cosmos

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
