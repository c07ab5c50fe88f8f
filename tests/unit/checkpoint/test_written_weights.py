"""Files of weights hold finite values, or are not written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemWriter

from cosmos_core.checkpoint import DcpWeights, Entry, write_shards
from cosmos_core.errors import UserError


@pytest.mark.parametrize(
    ("value", "dtype", "finite"),
    [
        (1e6, torch.float32, True),
        (1e6, torch.bfloat16, True),
        (1e6, torch.float16, False),
        (float("nan"), torch.float32, False),
        (float("-inf"), torch.bfloat16, False),
    ],
)
def test_a_value_that_is_not_finite_in_the_written_dtype_ends_the_export_with_its_tensors_name(
    value: float, dtype: torch.dtype, finite: bool, tmp_path: Path
) -> None:
    stored = {"net.head.weight": torch.tensor([1.0, value]), "net.embed.weight": torch.ones(2)}
    dcp.save(stored, storage_writer=FileSystemWriter(tmp_path / "model"), no_dist=True)
    source = DcpWeights(tmp_path / "model", "live")
    entries = {f"written.{name}": Entry(source, name, dtype) for name in ("embed.weight", "head.weight")}
    if finite:
        assert write_shards(tmp_path, "model", entries, verify=True).files == 1
        return
    with pytest.raises(UserError, match="not finite") as refused:
        write_shards(tmp_path, "model", entries, verify=True)
    assert refused.value.problems[0].key == "written.head.weight"
    assert not (tmp_path / "model.safetensors").exists()
