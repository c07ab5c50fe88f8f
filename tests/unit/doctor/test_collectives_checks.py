"""Two processes reduce and gather right values; a peer that hangs, fails or dies is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cosmos_core.doctor import DoctorOptions
from cosmos_core.doctor.collectives import Peers, check_group, checks
from tests.unit.doctor.faulty import hanging_peer, wrong_peer


@pytest.mark.skipif(torch.cuda.is_available(), reason="GPUs are tested in tests/gpu")
def test_two_processes_hold_the_right_values_and_say_how_fast() -> None:
    (check,) = checks(DoctorOptions(quick=False, offline=True, output_root=Path()))
    assert check.name == "process 0 <-> process 1"
    result = check.run()
    assert result.status == "ok", result
    assert "all-reduce, reduce-scatter, all-gather right" in result.message
    assert float(result.data["gigabytes_per_second"]) > 0


def test_a_peer_that_never_answers_is_named_with_the_time_that_it_had() -> None:
    result = check_group(Peers("cpu", target=hanging_peer, limit=0.5), (0, 2))
    assert (result.status, result.message) == ("broken", "process 0 <-> process 2: no answer in 0.5 s")
    assert "GLOO_SOCKET_IFNAME" in result.hint


def test_wrong_values_on_one_member_are_told() -> None:
    result = check_group(Peers("cpu", target=wrong_peer, limit=180.0), (0, 1))
    assert (result.status, result.message) == ("broken", "process 1: wrong values after all-reduce")


def test_quick_leaves_pairs_out() -> None:
    (check,) = checks(DoctorOptions(quick=True, offline=True, output_root=Path()))
    assert check.run().status == "skipped"
