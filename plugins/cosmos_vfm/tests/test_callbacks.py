"""The generator's callbacks: when the video tokenizer is compiled, and what previews show."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from cosmos_core.config import DataloaderConfig, DatasetConfig, TrainerConfig
from cosmos_core.data import VideoText
from cosmos_core.train import BuildContext, CallbackContext, Media
from cosmos_core.train.tracker import TrackerGroup
from cosmos_vfm.callbacks.compile_tokenizer import CompileTokenizerCallback
from cosmos_vfm.callbacks.every_n_draw_sample import DrawSamplesCallback
from cosmos_vfm.config import CompileTokenizer, DrawSamples, TextTokenizer, VfmConfig, VideoTokenizer
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.network import Cosmos3Network
from cosmos_vfm.sampling import SampleRequest
from cosmos_vfm.sizes import MODEL_SIZES
from cosmos_vfm.tokenizer.wan import WAN_CONFIG
from tests.unit.logged import logged as logged_by


def family_with(vae: Path) -> VfmFamily:
    config = VfmConfig(
        tier="tiny",
        precision="float32",
        tokenizer=VideoTokenizer(type="wan22", vae_path=str(vae)),
        text_tokenizer=TextTokenizer(type="words"),
    )
    data = DataloaderConfig(dataset=DatasetConfig(type="none"), max_samples_per_batch=4)
    return VfmFamily(config, BuildContext(device=torch.device("cpu"), data=data))


REGIONS = 3
"""Functions of the encoder that are compiled."""


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae") / "vae"
    AutoencoderKLWan(**{**WAN_CONFIG, "base_dim": 8, "decoder_base_dim": 8}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("loaded", [True, False])
def test_the_video_tokenizer_is_compiled_once_at_the_set_step_and_gives_the_same(
    vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, loaded: bool
) -> None:
    """Traced but not lowered, which would take minutes. With a full latent cache the weights may not be loaded yet."""
    calls: list[Any] = []
    compile = partial(torch.compile, backend="eager")
    monkeypatch.setattr(
        torch, "compile", lambda function, **options: calls.append(function) or compile(function, **options)
    )
    family, video = family_with(vae), torch.randint(0, 256, (1, 3, 5, 32, 32), dtype=torch.uint8)
    plain = family_with(vae).video_tokenizer.encode(video)
    if loaded:
        family.video_tokenizer.encode(video)
    trainer: Any = SimpleNamespace(family=family, mesh=SimpleNamespace(device=torch.device("cuda")))
    options = CompileTokenizer(enabled=True, compile_after_iterations=after)
    callback = CompileTokenizerCallback(options, CallbackContext(tmp_path, tmp_path))
    callback.train_start(trainer)
    for number in range(1, 6):
        assert len(calls) == (REGIONS if loaded and number > after else 0)
        callback.after_backward(trainer)
    assert len(calls) == REGIONS * loaded
    torch.testing.assert_close(family.video_tokenizer.encode(video), plain, rtol=1e-5, atol=1e-6)
    assert len(calls) == REGIONS


@pytest.mark.parametrize(("device", "enabled"), [("cuda", False), ("cpu", True)])
def test_the_video_tokenizer_is_not_compiled_by_default_nor_on_a_host(
    vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, enabled: bool
) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    trainer: Any = SimpleNamespace(family=family_with(vae), mesh=SimpleNamespace(device=torch.device(device)))
    callback = CompileTokenizerCallback(CompileTokenizer(enabled=enabled), CallbackContext(tmp_path, tmp_path))
    callback.train_start(trainer)
    for _ in range(5):
        callback.after_backward(trainer)


class Clips:
    """One clip each of text, image and video to video."""

    def __len__(self) -> int:
        return 3

    def get(self, index: int, random: np.random.Generator) -> VideoText:
        video = torch.randint(0, 256, (3, 17, 64, 64), generator=torch.Generator().manual_seed(index))
        return VideoText(f"clip{index}", video.to(torch.uint8), "a ball", 5.0, condition_frames=index)


def network_without_values() -> Cosmos3Network:
    with torch.device("meta"):
        return Cosmos3Network(MODEL_SIZES["tiny"])


def test_previews_use_the_condition_frames_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[SampleRequest] = []

    class Family(VfmFamily):
        def __init__(self) -> None:
            pass

        def sample(self, model: Any, requests: Any, **options: Any) -> list[torch.Tensor]:
            requested.extend(requests)
            return [torch.zeros(3, 17, 64, 64, dtype=torch.uint8) for _ in requests]

    trainer: Any = SimpleNamespace(
        family=Family(),
        model=network_without_values(),
        step=0,
        is_main=True,
        config=SimpleNamespace(trainer=TrainerConfig(run_validation=False)),
        loader=SimpleNamespace(source=Clips()),
        validation=None,
        averaged_weights=torch.no_grad,
        trackers=SimpleNamespace(log_media=lambda step, media: logged.extend(media)),
    )
    logged: list[Media] = []
    with logged_by("cosmos_vfm") as lines:
        DrawSamplesCallback(DrawSamples(count=3), CallbackContext(tmp_path, tmp_path)).train_start(trainer)
    assert "takes its captions from the training data: trainer.run_validation is false" in lines[0]
    assert [item.name for item in logged] == ["samples/sheet", *(f"samples/sample_{index:02d}" for index in range(3))]
    assert all(item.path.is_file() for item in logged)
    assert [request.num_condition_frames for request in requested] == [0, 1, 2]
    for index, frames in ((1, 1), (2, 5)):
        condition = requested[index].condition
        assert condition is not None
        assert torch.equal(condition, Clips().get(index, np.random.default_rng(0)).pixels()[:, :frames])
    assert (tmp_path / "step_000000000.png").is_file()
    page = (tmp_path / "index.html").read_text()
    assert page.count("a ball</p>") == 3
    assert 'src="step_000000000/sample_02.mp4"' in page
    assert 'src="ground_truth/sample_02.mp4"' in page


def test_previews_of_prompts_have_the_size_of_the_data_unless_they_say_their_own(tmp_path: Path) -> None:
    drawn: list[SampleRequest] = []

    class Family(VfmFamily):
        def __init__(self) -> None:
            self.config = VfmConfig(tier="tiny")

        def sample(self, model: Any, requests: Any, **options: Any) -> list[torch.Tensor]:
            drawn.extend(requests)
            assert options["seeds"] == [None, None, 7]
            return [torch.zeros(3, r.frames, r.height, r.width, dtype=torch.uint8) for r in requests]

    trainer: Any = SimpleNamespace(
        family=Family(),
        model=network_without_values(),
        step=0,
        is_main=True,
        trackers=TrackerGroup({}),
        loader=SimpleNamespace(source=Clips()),
        validation=None,
        averaged_weights=torch.no_grad,
    )
    (tmp_path / "more.jsonl").write_text('{"prompt": "\u65e5\u672c", "frames": 1, "size": "32x48", "seed": 7}\n')
    options = DrawSamples(prompts=("a cat", "x" * 3000), prompts_file=str(tmp_path / "more.jsonl"))
    callback = DrawSamplesCallback(options, CallbackContext(tmp_path, tmp_path))
    callback.train_start(trainer)
    trainer.step = 4
    callback.train_end(trainer)
    shapes = [(one.frames, one.width, one.height, one.fps) for one in drawn]
    assert shapes == 2 * [(17, 64, 64, 5.0), (17, 64, 64, 5.0), (1, 32, 48, 5.0)]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "\u65e5\u672c" in page
    assert 'src="step_000000004/sample_02.png" alt="after 4 steps: \u65e5\u672c"' in page
    assert page.count("<figcaption>after 0 steps") == page.count("<figcaption>after 4 steps") == 3
    assert (tmp_path / "comparison.png").is_file()
