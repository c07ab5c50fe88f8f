"""Who reads a checkpoint while its run writes it again gets one error, and never parts of both."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cosmos_core.checkpoint import DcpWeights
from cosmos_core.checkpoint import load as load_module
from cosmos_core.checkpoint.load import load_model
from cosmos_core.checkpoint.pack import pack
from cosmos_core.checkpoint.save import save_checkpoint
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import UserError

MESH = local_mesh()


def saved(root: Path, value: float) -> Path:
    tensors = {f"net.{name}": torch.full(shape, value) for name, shape in {"weight": (2, 3), "bias": (2,)}.items()}
    return save_checkpoint(root, 1, {"model": tensors}, {}, MESH)


def replaced(read: Callable[[], object], checkpoint: Path) -> None:
    with pytest.raises(UserError, match="the checkpoint was replaced") as refused:
        read()
    (problem,) = refused.value.problems
    assert (problem.file, problem.hint) == (str(checkpoint), "run the same command again")


def test_weights_that_are_read_one_by_one(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, 1.0)
    weights = DcpWeights(checkpoint / "model", "live")
    assert weights.read(["weight"])["weight"].unique() == 1.0
    saved(tmp_path, 2.0)
    replaced(lambda: weights.read(["bias"]), checkpoint)
    for file in (checkpoint / "model").glob("*.distcp"):
        file.write_bytes(b"")
    replaced(lambda: weights.read(["bias"]), checkpoint)
    shutil.rmtree(checkpoint)
    with pytest.raises(UserError, match="the checkpoint is gone"):
        weights.read(["bias"])


@pytest.mark.parametrize("packed", [False, True])
def test_a_checkpoint_that_is_loaded_or_packed(packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata are those of before; the same places in the new files hold other values."""
    checkpoint, model = saved(tmp_path, 1.0), nn.Linear(3, 2)
    load, output = load_module.load_component, tmp_path / "packed"

    def write_and_load(*arguments: object) -> None:
        saved(tmp_path, 2.0)
        load(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("cosmos_core.checkpoint.load.load_component", write_and_load)
    monkeypatch.setattr("cosmos_core.checkpoint.weights.load_component", write_and_load)
    if packed:
        replaced(lambda: pack(checkpoint, output), checkpoint)
        assert not output.exists()
    else:
        replaced(lambda: load_model(checkpoint / "model", model, None, MESH), checkpoint)
