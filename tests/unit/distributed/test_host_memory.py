"""On a CPU, memory of freed tensors is used again without asking the system for new pages."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from cosmos_core.distributed.host_memory import keep_freed_memory

MIB, NUMBER, ROUNDS = 16, 8, 4
PAGES = MIB * NUMBER * 2**20 // resource.getpagesize()


def activations() -> None:
    """Made and freed."""
    _ = [torch.ones(MIB * 2**18) for _ in range(NUMBER)]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are not changed")
def test_freed_tensors_leave_their_pages_to_the_next_ones() -> None:
    keep_freed_memory()
    for _ in range(2):  # The second fills what earlier tests of this process had broken up.
        activations()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        activations()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < PAGES, "otherwise each round finds as many"
