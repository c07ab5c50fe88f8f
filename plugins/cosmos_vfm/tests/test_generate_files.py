"""Files of `cosmos generate`: where one cannot be written, one error says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cosmos_core.errors import UserError
from cosmos_vfm.generate.outputs import write_clip


@pytest.mark.parametrize("frames", [1, 5])
def test_a_clip_that_cannot_be_written_is_one_error(frames: int) -> None:
    with pytest.raises(UserError, match=r"^/proc/clip\.\w+ cannot be written"):
        write_clip(Path("/proc"), "clip", torch.zeros(3, frames, 16, 16, dtype=torch.uint8), 8.0)
