"""A checkpoint is written at the disk's speed: no sum is taken that nobody reads, and the disk works from early on."""

from __future__ import annotations

import errno
import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from cosmos_core.checkpoint import DcpWriter, hashing_writer
from cosmos_core.checkpoint.save import save_checkpoint
from cosmos_core.distributed import local_mesh


def test_tensors_have_no_crc32_of_torch_and_others_keep_it(tmp_path: Path) -> None:
    state = {"model": {"net.a": torch.arange(9.0)}}
    saved = save_checkpoint(tmp_path, 1, state, {}, local_mesh()) / "model"
    streamed = tmp_path / "streamed"
    DcpWriter(streamed).write(0, state["model"].items(), of="source")
    for folder in (saved, streamed):
        with zipfile.ZipFile(folder / "__0_0.distcp") as archive:
            assert not any(entry.CRC for entry in archive.infolist())
    torch.save(state, tmp_path / "other")
    with zipfile.ZipFile(tmp_path / "other") as archive:
        assert any(entry.CRC for entry in archive.infolist())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system decides")
def test_the_disk_begins_long_before_the_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system takes no advice: that is no fault of the disk."""
    begun: list[tuple[int, int]] = []

    def advised(file: int, start: int, length: int, advice: int) -> None:
        begun.append((start, length))
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(hashing_writer, "WRITE_BACK", 4096)
    monkeypatch.setattr(os, "posix_fadvise", advised)
    tensors = {f"net.{index}": torch.zeros(2000) for index in range(5)}
    folder = save_checkpoint(tmp_path, 1, {"model": tensors}, {}, local_mesh()) / "model"
    assert len(begun) >= 5
    ends = [0, *(start + length for start, length in begun)]
    assert [start for start, _ in begun] == ends[:-1], "nothing is left out"
    assert ends[-1] > 0.9 * (folder / "__0_0.distcp").stat().st_size
