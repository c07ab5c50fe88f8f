"""Conversions that are interrupted, and published folders that are damaged or describe another network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import Cosmos3OmniTransformer

from cosmos_core.checkpoint import DcpWriter
from cosmos_core.errors import UserError
from cosmos_vfm.checkpoints.convert import to_dcp
from cosmos_vfm.checkpoints.diffusers_config import to_diffusers_config
from cosmos_vfm.checkpoints.load import settings_of
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.sizes import MODEL_SIZES
from tests.command import cosmos
from tests.fixtures.reading import tensors


def write(folder: Path, seed: int) -> Path:
    """A published transformer in several shards."""
    torch.manual_seed(seed)
    config = {key: value for key, value in to_diffusers_config(MODEL_SIZES["tiny"]).items() if not key.startswith("_")}
    Cosmos3OmniTransformer(**config).to(torch.bfloat16).save_pretrained(folder / "transformer", max_shard_size="2MB")
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("published"), seed=0)


def interrupted(source: Path, output: Path) -> Path:
    """Begin a conversion that ends after its first shard. Returns that shard's file."""
    write = DcpWriter.write

    def once(self: DcpWriter, number: int, *given: Any, **more: Any) -> None:
        if number:
            raise KeyboardInterrupt
        write(self, number, *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DcpWriter, "write", once)
        with pytest.raises(KeyboardInterrupt):
            to_dcp(source, output)
    assert not output.exists()
    return output.with_name(f".{output.name}.partial") / "model/__0_0.distcp"


def test_an_interrupted_conversion_continues_and_shows_nothing_before(published: Path, tmp_path: Path) -> None:
    stamp = interrupted(published, tmp_path / "out").stat().st_mtime_ns
    to_dcp(published, tmp_path / "out")
    assert (tmp_path / "out/model/__0_0.distcp").stat().st_mtime_ns == stamp
    assert not list((tmp_path / "out/model").glob(".__*"))


def test_a_damaged_shard_is_told_before_anything_is_written(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "broken")
    last = sorted((tmp_path / "broken/transformer").glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged or incomplete") as refused:
        to_dcp(tmp_path / "broken", tmp_path / "out")
    assert refused.value.problems[0].file == str(last)
    assert not list(tmp_path.rglob("*.distcp"))


def test_shards_of_another_source_are_not_reused(published: Path, tmp_path: Path) -> None:
    """Two checkpoints of one shape, the first interrupted, to the same place."""
    other = tmp_path / "other"
    write(other, seed=1)
    assert interrupted(other, tmp_path / "base").is_file()
    to_dcp(published, tmp_path / "base")
    to_dcp(published, tmp_path / "again")
    here, again = (tensors(tmp_path / name / "model") for name in ("base", "again"))
    assert here.keys() == again.keys()
    assert all(torch.equal(here[name], again[name]) for name in here)


@pytest.mark.parametrize(
    "broken", ["transformer/config.json", "transformer/diffusion_pytorch_model.safetensors.index.json"]
)
def test_a_damaged_config_is_one_clear_error(published: Path, tmp_path: Path, broken: str) -> None:
    shutil.copytree(published, tmp_path / "copy")
    (tmp_path / "copy" / broken).write_text('{"half": ')
    error = cosmos("convert", str(tmp_path / "copy"), "-o", str(tmp_path / "out"), code=2).stderr
    assert broken in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", 9), ("rope_theta", 1e4), ("hidden_size", "wide")])
def test_settings_of_another_network_than_the_tensors_make_are_refused(
    published: Path, tmp_path: Path, key: str, value: object
) -> None:
    shutil.copytree(published, tmp_path / "copy")
    file = tmp_path / "copy/transformer/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value, "vocab_size": 7}))
    with pytest.raises(UserError, match="disagree") as error:
        to_dcp(tmp_path / "copy", tmp_path / "out")
    assert [(problem.key, problem.file) for problem in error.value.problems] == [(key, str(file))]
    with pytest.raises(UserError, match="disagree"):
        settings_of(VfmConfig(), tmp_path / "copy")
