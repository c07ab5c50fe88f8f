"""Random faults on runs of one and two processes lose nothing; `make storm` has many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storm.trials import Storm


@pytest.mark.ranks
def test_random_faults_lose_nothing(tmp_path: Path) -> None:
    storm = Storm(tmp_path, seed=5, ranks=[1, 1, 1, 2], forked=True)
    for _ in range(15):
        storm.trial()
    storm.finish()
    assert storm.lost == []
    assert storm.differing == 0
    assert storm.rows >= 80
    assert sum(saving for _, saving in storm.faults) >= 2
