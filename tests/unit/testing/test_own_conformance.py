"""Our own families and datasets pass the kit that we give to others."""

from __future__ import annotations

from pathlib import Path

from cosmos_core.builtin.tiny.config import TinyData, TinyModel
from cosmos_core.testing import check_dataset, check_family
from cosmos_data_bridge.config import BridgeConfig
from cosmos_vfm.config import TextTokenizer, VfmConfig, VideoTokenizer
from tests.command import cosmos


def test_tiny_conforms() -> None:
    samples = check_dataset(TinyData(type="tiny"))
    check_family("tiny", TinyModel(precision="float32", noise=0.5), samples)


def test_bridge_and_vfm_conform(tmp_path: Path) -> None:
    cosmos("data", "prepare", "bridge", "--synthetic", "4", "--val", "1", "-o", str(tmp_path / "data"))
    data = BridgeConfig(type="bridge", path=str(tmp_path / "data"), resolution="64", min_window_frames=17)
    model = VfmConfig(
        tier="tiny",
        init="random",
        precision="float32",
        tokenizer=VideoTokenizer(type="block_dct"),
        text_tokenizer=TextTokenizer(type="words"),
    )
    check_family("vfm", model, check_dataset(data))
