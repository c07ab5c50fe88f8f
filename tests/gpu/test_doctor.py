"""`cosmos doctor` on accelerators: every kernel is right, every pair of devices talks.

Run it where there is one or more: ``python -m pytest tests/gpu``.
"""

from __future__ import annotations

import json
from itertools import combinations

import pytest
import torch

from tests.command import module

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here, which tests/gpu needs"),
]


def test_the_doctor_finds_every_kernel_right_and_every_pair_connected() -> None:
    done = module("cosmos_core", "doctor", "--json", "--offline", code=None)
    checks = {(check["group"], check["name"]): check for check in json.loads(done.stdout)["checks"]}
    print(done.stderr)
    assert [check for check in checks.values() if check["status"] == "broken"] == []
    count = torch.cuda.device_count()
    expected = [("machine", f"GPU {index}") for index in range(count)]
    expected += [("collectives", f"GPU {first} <-> GPU {second}") for first, second in combinations(range(count), 2)]
    kernels = ["flash", "memory-efficient", "math", "packed, unequal lengths", "sequence mask", "two merged parts"]
    if torch.cuda.get_device_capability() >= (9, 0):
        kernels.append("cuDNN")
    expected += [("attention", f"{kernel}, bfloat16") for kernel in kernels]
    assert {place: checks[place]["status"] for place in expected} == dict.fromkeys(expected, "ok")
    assert done.returncode == 0
