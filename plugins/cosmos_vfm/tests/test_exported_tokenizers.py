"""An export whose base has no other components carries the tokenizers that the run was trained with."""

from __future__ import annotations

import shutil
from pathlib import Path

from cosmos_core.plugin import Conversion
from cosmos_vfm.checkpoints.convert import to_dcp
from cosmos_vfm.checkpoints.converters import export
from cosmos_vfm.config import TextTokenizer, VfmConfig, VideoTokenizer
from cosmos_vfm.sizes import MODEL_SIZES
from tests.tiny_generator import write_generator


def test_folders_of_the_configuration_are_copied_without_the_weights_of_another_model(tmp_path: Path) -> None:
    published, base, out = (tmp_path / name for name in ("published", "base", "out"))
    write_generator(published, MODEL_SIZES["tiny"])
    (published / "text_tokenizer/model.safetensors").write_bytes(b"of another model")
    to_dcp(published, base)
    shutil.rmtree(base / "components")
    model = VfmConfig(
        tokenizer=VideoTokenizer(type="wan22", vae_path=str(published)),
        text_tokenizer=TextTokenizer(type="hf", path=str(published / "text_tokenizer")),
    )
    facts = export(Conversion(source=base, output=out, base=base, model=model))
    assert facts["components"] == ["vae", "text_tokenizer"]
    assert all((out / name).is_file() for name in ("vae/config.json", "text_tokenizer/tokenizer.json"))
    assert (out / "model_index.json").is_file(), "the parts of a pipeline are all there"
    assert not (out / "text_tokenizer/model.safetensors").exists()
