"""Our own families and datasets pass the kit that we give to others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_core.builtin.tiny.config import TinyData, TinyModel
from cosmos_core.builtin.tiny.source import TinySource
from cosmos_core.data import Chat, Image, Message
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


@pytest.mark.parametrize(
    ("pixels", "what"),
    [
        (np.zeros((3, 8, 8), np.uint8), "ndarray"),
        (torch.zeros(3, 8, 8), r"torch.float32 \[3, 8, 8\]"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"torch.uint8 \[8, 8, 3\]"),
    ],
    ids=["NumPy", "numbers", "channels last"],
)
def test_pixels_that_no_family_takes_are_named(pixels: object, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dialog = Chat(key="a", messages=(Message(role="user", content=("What?", Image(pixels=pixels))),))  # type: ignore[arg-type]
    monkeypatch.setattr(TinySource, "get", lambda *_: dialog)
    with pytest.raises(AssertionError, match=rf"sample 0: pixels must be a uint8 tensor \[3, H, W\], not {what}"):
        check_dataset(TinyData(type="tiny"))
