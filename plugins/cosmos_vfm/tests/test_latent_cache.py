"""`cosmos data cache`: encodes once; losses stay the same; stale or damaged caches are rejected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from attrs import evolve
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file

from cosmos_core.data import VideoText
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import resolve
from cosmos_core.train import BuildContext
from cosmos_core.train.build import validation_loader
from cosmos_vfm.cache import Cached, LatentCache, video_tokenizer_identity
from cosmos_vfm.config import VfmConfig
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.tokenizer.wan import WAN_CONFIG
from tests.command import cosmos, losses

SHORT = (
    "trainer.run_validation=false",
    "trainer.max_iter=3",
    "scheduler.cycle_lengths=[3]",
    "scheduler.warm_up_steps=[1]",
    "dataloader_train.max_samples_per_batch=6",
    "dataloader_train.dataset.cache_decoded=false",
    "trainer.callbacks.every_n_draw_sample.steps=1",
    "trainer.callbacks.every_n_draw_sample.count=1",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and its latent cache."""
    root = tmp_path_factory.mktemp("cache")
    cosmos("data", "prepare", "bridge", "--synthetic", "12", "--val", "4", "-o", str(root / "data"))
    printed = encode(root, root / "latents")
    assert "clips: 16\nencoded: 16\nkept: 0\nunreadable: 0" in printed
    return root


def encode(root: Path, folder: Path, *more: str, code: int = 0) -> str:
    arguments = ("data", "cache", "vision_sft_demo", "-o", str(folder), *more)
    done = cosmos(*arguments, env={"DATASET_PATH": str(root / "data")}, code=code)
    return done.stdout + done.stderr


def train(root: Path, output: Path, *more: str, data: Path | None = None, code: int = 0) -> tuple[Path, str]:
    arguments = ("run", "vision_sft_demo", "--output-root", str(output), *SHORT, *more)
    done = cosmos(*arguments, env={"DATASET_PATH": str(data or root / "data")}, code=code)
    return output / "cosmos3/sft/vision_sft_demo", done.stderr


@pytest.fixture(scope="module")
def online(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(root, tmp_path_factory.mktemp("online"))[0]


def test_the_cache_gives_the_losses_of_online_encoding(root: Path, online: Path, tmp_path: Path) -> None:
    """Bound: 1e-6 relative, since clips are encoded in different batches."""
    cached, _ = train(root, tmp_path, f"dataloader_train.cache={root / 'latents'}")
    for step, figures in losses(cached).items():
        assert figures == pytest.approx(losses(online)[step], rel=1e-6)


def test_validation_data_that_no_run_reads_need_not_be_there(root: Path, tmp_path: Path) -> None:
    nowhere = f"dataloader_val.dataset.path={tmp_path / 'nowhere'}"
    assert "clips: 12\nencoded: 12" in encode(root, tmp_path / "latents", "trainer.run_validation=false", nowhere)


class Undecodable:
    """A stored clip that the cache knows."""

    shape = (3, 5, 64, 64)

    def identity(self) -> str:
        return "ab12"

    def load(self) -> torch.Tensor:
        raise AssertionError("decoded")


def test_cached_clips_are_neither_decoded_nor_tokenised(tmp_path: Path) -> None:
    config = resolve("vision_sft_demo", plugins=PluginManager.discover()).config
    data = evolve(config.dataloader_train, cache=None)
    family = VfmFamily(config.model, BuildContext(torch.device("cpu"), data))
    family.cache = family.open_cache(str(tmp_path / "c"), create=True)
    latents = torch.randn(48, 2, 4, 4)
    family.cache.write("ab12", Cached(latents, "red", (5, 6, 7)))
    prepared = family.prepare(VideoText("clip", Undecodable(), "red", 5.0))
    assert torch.equal(prepared.video, latents)
    assert prepared.spec.text_ids == (5, 6, 7)
    family.cache.path("ab12").unlink()
    with pytest.raises(AssertionError, match="decoded"):
        family.prepare(VideoText("clip", Undecodable(), "red", 5.0))


def test_cached_tokens_of_a_caption_that_was_cut_elsewhere_are_not_used(tmp_path: Path) -> None:
    """Each cap on caption tokens has its own cut; the latents serve them all."""
    config = resolve("vision_sft_demo", plugins=PluginManager.discover()).config
    caption, latents = "a red square moves to the right " * 20, torch.randn(48, 2, 4, 4)

    def family_of(limit: int) -> VfmFamily:
        data = evolve(config.dataloader_train, cache=None, max_caption_tokens=limit)
        family = VfmFamily(config.model, BuildContext(torch.device("cpu"), data))
        family.cache = family.open_cache(str(tmp_path / "c"), create=True)
        return family

    first = family_of(16)
    assert first.cache is not None
    first.cache.write("ab12", Cached(latents, caption, first.text.ids(caption, 16)))
    lengths = {}
    for limit in (16, 8, 32):
        prepared = family_of(limit).prepare(VideoText("clip", Undecodable(), caption, 5.0))
        assert torch.equal(prepared.video, latents)
        assert prepared.spec.text_ids == first.text.ids(caption, limit)
        lengths[limit] = len(prepared.spec.text_ids)
    assert lengths[8] < lengths[16] < lengths[32]


def test_clips_missing_from_the_cache_are_encoded_during_training(root: Path, online: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "latents", tmp_path / "latents")
    files = sorted((tmp_path / "latents").glob("*/*.safetensors"))
    for path in files[::2]:
        path.unlink()
    files[1].write_bytes(files[1].read_bytes()[:50])
    cached, _ = train(root, tmp_path, f"dataloader_train.cache={tmp_path / 'latents'}")
    for step, figures in losses(cached).items():
        assert figures == pytest.approx(losses(online)[step], rel=1e-6)


def test_an_interrupted_encoding_continues_and_several_processes_share_it(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "latents", tmp_path / "latents")
    files = sorted((tmp_path / "latents").glob("*/*.safetensors"))
    content = {path: path.read_bytes() for path in files}
    for path in files[:5]:
        path.unlink()
    assert "encoded: 5\nkept: 11" in encode(root, tmp_path / "latents")
    for path in files[:7]:
        path.unlink()
    assert "clips: 16\nencoded: 7\nkept: 9\nunreadable: 0" in encode(root, tmp_path / "latents", "--nproc", "2")
    assert {path: path.read_bytes() for path in files} == content


def test_a_cache_of_another_video_tokenizer_is_rejected(root: Path, tmp_path: Path) -> None:
    other = "model.precision=bfloat16"
    stderr = encode(root, root / "latents", other, code=2)
    assert "was made with the video tokenizer 'block_dct float32'" in stderr
    _, stderr = train(root, tmp_path, other, f"dataloader_train.cache={root / 'latents'}", code=2)
    assert "belongs to another video tokenizer" in stderr
    assert "Traceback" not in stderr


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Wan VAE as diffusers writes it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae") / "vae"
    AutoencoderKLWan(**{**WAN_CONFIG, "base_dim": 8, "decoder_base_dim": 8}).save_pretrained(folder)
    return folder


def one_weight(folder: Path) -> None:
    """A single number of a single tensor."""
    file = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    name = "encoder.conv_in.bias"
    weights[name][0] += 1e-3
    save_file(weights, file, metadata={"format": "pt"})


def the_statistics(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["latents_mean"][0] += 0.5
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("change", [one_weight, the_statistics])
def test_a_changed_vae_is_another_video_tokenizer(vae: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = tmp_path / "vae"
    shutil.copytree(vae, folder)
    wan = ("model.tokenizer.type=wan22", f"model.tokenizer.vae_path={folder}")
    config = resolve("vision_sft_demo", wan, plugins=PluginManager.discover()).config.model
    assert isinstance(config, VfmConfig)
    before = video_tokenizer_identity(config)
    assert video_tokenizer_identity(config, tmp_path / "remembered") == before
    (digest,) = (tmp_path / "remembered").iterdir()
    change(folder)
    for remembered in (None, tmp_path / "remembered"):
        assert video_tokenizer_identity(config, remembered) != before
    (changed,) = set((tmp_path / "remembered").iterdir()) - {digest}
    changed.write_text("0" * 64)
    assert "0" * 64 in video_tokenizer_identity(config, tmp_path / "remembered"), "weights are not read again"
    changed.write_text("cut")
    assert video_tokenizer_identity(config, tmp_path / "remembered") == video_tokenizer_identity(config)


def test_the_weights_of_a_vae_are_read_once_for_a_cache_and_a_mistyped_name_makes_no_folder(
    vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wan = ("model.tokenizer.type=wan22", f"model.tokenizer.vae_path={vae}")
    config = resolve("vision_sft_demo", wan, plugins=PluginManager.discover()).config
    assert isinstance(config.model, VfmConfig)
    family = VfmFamily(config.model, BuildContext(torch.device("cpu"), config.dataloader_train))
    family.open_cache(str(tmp_path / "latents"), create=True)
    with pytest.raises(UserError, match="there is no latent cache"):
        family.open_cache(str(tmp_path / "latent"))
    assert [path.name for path in tmp_path.iterdir()] == ["latents"]
    monkeypatch.setattr("cosmos_vfm.cache.identity.file_digest", lambda *_: pytest.fail("read again"))
    assert family.open_cache(str(tmp_path / "latents")).is_empty


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("model.precision=bfloat16", "--nproc", "2"), "was made with the video tokenizer"),
        (("dataloader_train.dataset.path=/nowhere",), "no such file: /nowhere/train/video_dataset_file.jsonl"),
        (("model.tokenizer.type=wan22", "model.tokenizer.vae_path=/nowhere/vae.pth"), "no such file or folder"),
        ((), "the output cannot be written; nothing was encoded"),
    ],
)
def test_mistakes_are_one_clear_error_and_leave_no_folder(
    root: Path, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    place = root / "latents" if "--nproc" in more else Path("/proc/new") if not more else tmp_path / "new"
    stderr = encode(root, place, *more, code=2)
    assert words in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "new").exists()


def test_clips_that_cannot_be_used_are_named_and_counted(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "data", tmp_path / "data")
    cut, lost, *_ = sorted((tmp_path / "data/train/videos").glob("*.mp4"))
    cut.write_bytes(cut.read_bytes()[:200])
    lost.unlink()
    stderr = encode(tmp_path, tmp_path / "latents")
    assert "clips: 16\nencoded: 14\nkept: 0\nunreadable: 2" in stderr
    assert cut.name in stderr
    assert lost.name in stderr


def test_a_damaged_index_is_rejected(root: Path, tmp_path: Path) -> None:
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents/cache.json").write_text("{}")
    stderr = encode(root, tmp_path / "latents", code=2)
    assert "was made with the video tokenizer 'None'" in stderr
    assert "Traceback" not in stderr


def test_validation_reads_the_training_datas_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASET_PATH", str(root / "data"))
    plugins = PluginManager.discover()
    config = resolve("vision_sft_demo", [f"dataloader_train.cache={root / 'latents'}"], plugins=plugins).config
    family = VfmFamily(config.model, BuildContext(torch.device("cpu"), config.dataloader_train))
    loader = validation_loader(config, family, plugins, local_mesh())
    assert loader is not None
    assert all(item.value.video.is_floating_point() for batch in loader for item in batch.items)


def test_a_folder_without_a_cache_is_rejected_before_the_start(root: Path, tmp_path: Path) -> None:
    _, stderr = train(root, tmp_path, f"dataloader_train.cache={tmp_path / 'none'}", code=2)
    assert "is not a latent cache" in stderr
    assert "cosmos data cache" in stderr


def test_a_recipe_of_another_family_has_nothing_to_cache(tmp_path: Path) -> None:
    stderr = cosmos("data", "cache", "hello", "-o", str(tmp_path / "out"), code=2).stderr
    assert "only the generator encodes videos" in stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bit", range(8))
def test_a_clip_with_a_damaged_token_is_encoded_again(tmp_path: Path, bit: int) -> None:
    """Another token would be trained on without a word."""
    cache, ids = LatentCache(tmp_path / "c", "block_dct", "text", create=True), tuple(range(7000, 7100))
    cache.write("ab12", Cached(torch.randn(48, 2, 3, 4), "red", ids))
    content = bytearray(cache.path("ab12").read_bytes())
    place = content.index(torch.tensor(ids, dtype=torch.int32).numpy().tobytes())
    content[place + 12] ^= 1 << bit
    cache.path("ab12").write_bytes(content)
    assert cache.read("ab12", "red") is None


@pytest.mark.parametrize("exact", [True, False])
def test_values_come_back_bit_for_bit(tmp_path: Path, exact: bool) -> None:
    cache = LatentCache(tmp_path / "c", "block_dct", "text", create=True)
    latents = torch.randn(48, 2, 3, 4)
    latents = latents.bfloat16().float() if exact else latents
    cache.write("ab12", Cached(latents, "red", (1, 2, 3)))
    cached = cache.read("ab12", "red")
    assert cached is not None
    assert torch.equal(cached.latents, latents)
    assert cached.ids == (1, 2, 3)
    changed = cache.read("ab12", "blue")
    assert changed is not None
    assert changed.ids is None
    other_text = LatentCache(tmp_path / "c", "block_dct", "other").read("ab12", "red")
    assert other_text is not None
    assert other_text.ids is None
    assert cache.read("cd34", "red") is None
    assert json.loads((tmp_path / "c/cache.json").read_text())["codec"] == "block_dct"
    with pytest.raises(UserError, match="another video tokenizer"):
        LatentCache(tmp_path / "c", "wan22", "text")


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_clips_whose_index_is_lost_are_not_taken_for_those_of_any_video_tokenizer(
    tmp_path: Path, content: str | None
) -> None:
    cache = LatentCache(tmp_path / "c", "block_dct", "text", create=True)
    cache.write("ab12", Cached(torch.randn(48, 2, 3, 4), "red", None))
    (tmp_path / "c/cache.json").unlink()
    if content is not None:
        (tmp_path / "c/cache.json").write_text(content)
    with pytest.raises(UserError, match="the index of a latent cache cannot be used"):
        LatentCache(tmp_path / "c", "wan22", "text", create=True)
