"""Files of `cosmos generate`: given images, and where a file cannot be written, one error says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from cosmos_core.errors import UserError
from cosmos_vfm.config import Sampling
from cosmos_vfm.generate.clips import Settings, plan_clips
from cosmos_vfm.generate.media import check_media, condition_of
from cosmos_vfm.generate.outputs import write_clip
from cosmos_vfm.generate.page import Cell, PageRow, write_page
from cosmos_vfm.generate.prompt_file import Row


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


def test_a_given_image_is_read_as_those_of_dialogs_are(tmp_path: Path) -> None:
    """Grey of 16 bits keeps its levels; damaged metadata is ignored."""
    levels = np.linspace(0, 255, 64 * 64).round().astype(np.uint8).reshape(64, 64)
    PIL.Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "grey.png")
    PIL.Image.fromarray(levels).save(tmp_path / "exif.png", exif=b"II*\0")
    rows = [Row(prompt="a", image=tmp_path / name) for name in ("grey.png", "exif.png")]
    clips = plan_clips(rows, Settings(size="64x64", frames=5), tier="tiny", sampling=Sampling())
    check_media(clips)
    for clip in clips:
        condition = condition_of(clip)
        assert condition is not None
        assert (condition.numpy() == levels).all()
