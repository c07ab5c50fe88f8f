"""Files of `cosmos generate`: where one cannot be written, one error says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cosmos_core.errors import UserError
from cosmos_vfm.generate.outputs import write_clip
from cosmos_vfm.generate.page import Cell, PageRow, write_page


@pytest.mark.parametrize("frames", [1, 5])
def test_a_clip_that_cannot_be_written_is_one_error(frames: int) -> None:
    with pytest.raises(UserError, match=r"^/proc/clip\.\w+ cannot be written"):
        write_clip(Path("/proc"), "clip", torch.zeros(3, frames, 16, 16, dtype=torch.uint8), 8.0)


def test_each_clip_of_a_page_has_a_label_of_what_it_is_and_of_its_prompt(tmp_path: Path) -> None:
    cells = [Cell("before", "a.png", 64), Cell("after", "b.mp4", 64)]
    write_page(tmp_path / "index.html", "Clips", [PageRow('a "red" <ball>', cells)])
    page = (tmp_path / "index.html").read_text()
    assert 'alt="before: a &#34;red&#34; &lt;ball&gt;"' in page
    assert 'aria-label="after: a &#34;red&#34; &lt;ball&gt;"' in page
