"""Adapters whose header holds other values than an export writes: one error with the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cosmos_core.errors import UserError
from cosmos_vfm.generate.adapters import FILE, METADATA, Adapter, fold
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.sizes import NetworkConfig


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "no JSON",
        "[" * 100_000,
        *(
            f'{{"transformer.{key}": {value}}}'
            for key in ("r", "lora_alpha")
            for value in ("0", "-1", '"2"', "[]", "1e400")
        ),
        '{"transformer.r": 1' + "0" * 400 + "}",
    ],
)
def test_a_header_of_wrong_types_is_refused(tmp_path: Path, header: str) -> None:
    save_file({"a.lora_A.weight": torch.ones(1, 1)}, tmp_path / FILE, {METADATA: header})
    with torch.device("meta"):
        model = Cosmos3Network(NetworkConfig(hidden=8, layers=1, heads=1, kv_heads=1, head_dim=16, mlp=8, vocab=8))
    with pytest.raises(UserError) as refused:
        fold(model, Adapter(tmp_path, 1.0))
    assert refused.value.problems[0].file == str(tmp_path / FILE)
