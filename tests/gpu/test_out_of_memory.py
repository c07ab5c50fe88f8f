"""An allocator that may take little: the run ends with one page, and what it had saved stays.

Run it where there is an accelerator: ``python -m pytest tests/gpu``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cosmos_core.errors import UserError
from cosmos_core.launch.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here, which tests/gpu needs"),
]
CAP = 2**30


def test_a_capped_allocator_ends_the_run_with_what_was_asked_and_held(tmp_path: Path) -> None:
    torch.cuda.set_per_process_memory_fraction(CAP / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(UserError) as raised:
            train("hello", {"model.hidden": 8192, "model.layers": 16}, output_root=tmp_path)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert raised.value.title.startswith("the GPU's memory ran out; no checkpoint was written yet")
    held = raised.value.problems[0].message
    assert "Tried to allocate" in held
    assert "held were" in held
