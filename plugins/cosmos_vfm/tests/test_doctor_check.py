"""What `cosmos doctor` says of NATTEN where it cannot run; tests/gpu/test_doctor.py runs its kernels."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from cosmos_vfm.doctor import check_natten


def test_natten_is_optional_and_needs_a_gpu() -> None:
    result = check_natten(torch.device("cpu"))
    assert result.status == "skipped"
    assert result.message == "not installed (optional)" if find_spec("natten") is None else "GPUs" in result.message
