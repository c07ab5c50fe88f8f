"""`dataloader_train.cache = "auto"`: a clip is encoded once, whatever run or rank asks; the disk never stops a run."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from diffusers import AutoencoderKLWan

from cosmos_core.data import VideoText
from cosmos_core.data.video import ClipFile
from cosmos_core.errors import UserError
from cosmos_core.plan.make import make_plan
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.train import BuildContext
from cosmos_vfm.batch import Prepared
from cosmos_vfm.cache import Cached, LatentCache, LatentWriter, clip_identity
from cosmos_vfm.cache.eviction import make_room
from cosmos_vfm.family import VfmFamily
from cosmos_vfm.tokenizer.wan import WAN_CONFIG
from tests.command import cosmos, losses, metric_records
from tests.unit.logged import logged

LATENTS = torch.arange(48 * 2 * 4 * 4, dtype=torch.float32).view(48, 2, 4, 4) / 1000
SIZE = 7000
"""More than a file of such latents takes, and less than two."""
SHORT = (
    "trainer.run_validation=false",
    "trainer.max_iter=4",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[1]",
    "checkpoint.save_iter=2",
    # Two steps are an epoch; the second one sees the clips in the order of the first.
    "dataloader_train.max_samples_per_batch=6",
    "dataloader_train.shuffle=false",
    "trainer.callbacks.every_n_draw_sample.steps=1",
    "trainer.callbacks.every_n_draw_sample.count=1",
)
AUTO = "dataloader_train.cache=auto"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, and a small Wan VAE as diffusers writes it."""
    root = tmp_path_factory.mktemp("auto")
    cosmos("data", "prepare", "bridge", "--synthetic", "12", "--val", "4", "-o", str(root / "data"))
    torch.manual_seed(0)
    AutoencoderKLWan(**{**WAN_CONFIG, "base_dim": 4, "decoder_base_dim": 4}).save_pretrained(root / "vae")
    return root


def train(root: Path, output: Path, *more: str) -> tuple[Path, str]:
    wan = ("model.tokenizer.type=wan22", f"model.tokenizer.vae_path={root / 'vae'}")
    arguments = ("run", "vision_sft_demo", "--output-root", str(output), *SHORT, *wan, *more)
    done = cosmos(*arguments, env={"DATASET_PATH": str(root / "data")})
    return output / "cosmos3/sft/vision_sft_demo", done.stdout + done.stderr


def hit_rates(run: Path) -> list[float]:
    return [record["cache_hit_rate"] for record in metric_records(run) if "loss" in record]


def from_step_2(run: Path) -> dict[int, tuple[float, float]]:
    """Metrics of a run whose last two steps are to be trained again, which this prepares."""
    metrics = losses(run)
    shutil.rmtree(run / "checkpoints/iter_000000004")
    (run / "metrics.jsonl").unlink()
    return {step: metrics[step] for step in (3, 4)}


def test_neither_the_second_epoch_nor_a_resumed_run_encodes_and_losses_are_those_without_a_cache(
    root: Path, tmp_path: Path
) -> None:
    """Bit for bit, since the clips were encoded in the same batches."""
    run, text = train(root, tmp_path / "auto", AUTO)
    assert f"latent cache: filled by this run in {tmp_path / 'auto/latent_cache'}, at most 100 GiB" in text
    assert "cache: 50% of clips were encoded before" in text
    assert hit_rates(run) == [0, 0, 1, 1]
    once = from_step_2(run)
    train(root, tmp_path / "auto", AUTO)
    assert losses(run) == once
    assert hit_rates(run) == [1, 1]

    from_step_2(run)
    train(root, tmp_path / "auto", "dataloader_train.cache=null")
    assert losses(run) == once


def test_ranks_share_what_each_of_them_encoded(root: Path, tmp_path: Path) -> None:
    more = ("--nproc", "2", "model.tokenizer.type=block_dct", "dataloader_train.max_samples_per_batch=3")
    shuffled = ("dataloader_train.shuffle=true", "trainer.max_iter=6", "scheduler.cycle_lengths=[6]")
    run, _ = train(root, tmp_path, AUTO, *more, *shuffled)
    assert hit_rates(run)[:2] == [0, 0]
    assert hit_rates(run)[4:] == [1, 1]
    assert len(list(tmp_path.glob("latent_cache/auto-*/*/*.safetensors"))) == 12


def family_of(cache_dir: Path, *settings: str) -> VfmFamily:
    config = load("vision_sft_demo", settings, plugins=PluginManager.discover())
    data = evolve(config.dataloader_train, cache="auto", cache_dir=str(cache_dir))
    return VfmFamily(config.model, BuildContext(torch.device("cpu"), data))


class Stored:
    """A clip in a file that counts how often it is decoded."""

    shape = (3, 5, 64, 64)

    def __init__(self, name: str = "ab12") -> None:
        self.name, self.decoded = name, 0

    def identity(self) -> str:
        return self.name

    def load(self) -> torch.Tensor:
        self.decoded += 1
        return torch.zeros(self.shape, dtype=torch.uint8)


def prepared(family: VfmFamily, clip: Any) -> Prepared:
    return family.prepare(VideoText("clip", clip, "red", 5.0))


def cache_of(family: VfmFamily) -> LatentCache:
    assert family.cache is not None
    return family.cache


def cut(content: bytes) -> bytes:
    return content[:50]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def bit_of_the_latents(content: bytes) -> bytes:
    return flipped(content, len(content) // 2)


def bit_of_the_format(content: bytes) -> bytes:
    return flipped(content, len(content) - 3)


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


def nothing(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, bit_of_the_latents, bit_of_the_format, zeros, nothing])
def test_a_damaged_entry_is_ignored_and_written_again(tmp_path: Path, damage: Any) -> None:
    family, clip = family_of(tmp_path), Stored()
    cache_of(family).write("ab12", Cached(LATENTS, "", None))
    assert torch.equal(prepared(family, clip).video, LATENTS)
    assert clip.decoded == 0
    path = cache_of(family).path("ab12")
    path.write_bytes(damage(path.read_bytes()))
    value = prepared(family, clip)
    assert (value.video.dtype, clip.decoded, value.identity) == (torch.uint8, 1, "ab12")
    cache_of(family).write(value.identity, Cached(LATENTS, "", None))
    assert torch.equal(prepared(family, clip).video, LATENTS)


def test_a_pipe_in_the_place_of_an_entry_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never end."""
    family = family_of(tmp_path)
    cache_of(family).write("ab12", Cached(LATENTS, "", None))
    path = cache_of(family).path("ab12")
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "read_bytes", lambda file: pytest.fail(f"{file} was read"))
    assert cache_of(family).read("ab12", "") is None


def test_latents_of_another_size_are_not_taken_and_pixels_are_known_by_themselves(tmp_path: Path) -> None:
    family, clip = family_of(tmp_path), Stored()
    cache_of(family).write("ab12", Cached(LATENTS[:, :1], "", None))
    assert prepared(family, clip).video.dtype == torch.uint8
    pixels = torch.zeros(Stored.shape, dtype=torch.uint8)
    identity = prepared(family, pixels).identity
    assert identity == clip_identity(pixels.clone())
    assert identity != clip_identity(pixels.view(3, 5, 32, 128))
    assert identity != clip_identity(pixels + 1)
    cache_of(family).write(identity, Cached(LATENTS, "", None))
    assert torch.equal(prepared(family, pixels).video, LATENTS)


def test_a_cache_that_is_lost_during_a_run_is_filled_again(tmp_path: Path) -> None:
    family = family_of(tmp_path)
    shutil.rmtree(tmp_path)
    assert cache_of(family).is_empty
    assert prepared(family, Stored()).video.dtype == torch.uint8
    cache_of(family).write("ab12", Cached(LATENTS, "", None))
    assert torch.equal(prepared(family_of(tmp_path), Stored()).video, LATENTS)


def test_a_file_in_the_place_of_the_folder_is_a_problem_of_the_plan(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = (AUTO, f"dataloader_train.cache_dir={tmp_path / 'file'}")
    plugins = PluginManager.discover()
    config = load("vision_sft_demo", settings, plugins=plugins)
    plan = make_plan(config, output_root=tmp_path, world=1, distributions={})
    problems = [problem for problem in plugins.check_run(plan) if problem.key == "dataloader_train.cache_dir"]
    assert [problem.message for problem in problems] == [f"{tmp_path / 'file'} is a file"]


def test_a_file_is_read_for_its_digest_once_until_it_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shutil.copy(next((root / "data/train/videos").glob("*.mp4")), root / "copy.mp4")
    clip = ClipFile(path, 0, 4, 1, (64, 64))
    identity = clip.identity()
    with monkeypatch.context() as patched:
        patched.setattr("cosmos_core.data.video.clip.file_digest", lambda *_: pytest.fail("read again"))
        assert clip.identity() == identity
        assert evolve(clip, last=8).identity() != identity
        assert evolve(clip, target=(64, 80)).identity() != identity
    path.write_bytes(path.read_bytes() + b"\0")
    assert clip.identity() != identity


def test_another_video_tokenizer_has_a_folder_of_its_own(tmp_path: Path) -> None:
    family, other = family_of(tmp_path), family_of(tmp_path, "model.precision=bfloat16")
    cache_of(family).write("ab12", Cached(LATENTS, "", None))
    assert prepared(other, Stored()).video.dtype == torch.uint8
    assert cache_of(other).is_empty
    index = cache_of(other).folder / "cache.json"
    index.write_bytes(b"\0\0")
    assert json.loads((cache_of(family_of(tmp_path, "model.precision=bfloat16")).folder / "cache.json").read_text())
    shutil.copy(cache_of(family).folder / "cache.json", index)
    with pytest.raises(UserError, match="another video tokenizer"):
        family_of(tmp_path, "model.precision=bfloat16")


def test_without_a_place_nothing_is_kept() -> None:
    """As when a recipe is evaluated that no run has planned."""
    config = load("vision_sft_demo", ("dataloader_train.cache=auto",), plugins=PluginManager.discover())
    assert VfmFamily(config.model, BuildContext(torch.device("cpu"), config.dataloader_train)).cache is None


def test_what_was_used_longest_ago_goes_first_and_only_from_folders_that_runs_fill(tmp_path: Path) -> None:
    """Identities that begin alike share a 256th of the limit."""
    limit = 3 * 256 * SIZE
    ours, older, asked_for = (
        LatentCache(tmp_path / name, "block_dct", "text", create=True, limit=limit)
        for name in ("auto-1", "auto-2", "mine")
    )
    for number, cache in enumerate((asked_for, older, ours, ours)):
        cache.path("ab").parent.mkdir(exist_ok=True)
        cache.write(f"ab{number}", Cached(LATENTS, "", None))
        os.utime(cache.path(f"ab{number}"), (0, time.time() - 10_000 + number))
    abandoned = ours.folder / "ab/.x.partial"
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    assert ours.read("ab2", "") is not None
    ours.write("ab4", Cached(LATENTS, "", None))
    ours.write("ab5", Cached(LATENTS, "", None))
    left = {path.name.partition(".")[0] for path in tmp_path.glob("*/ab/*")}
    assert left == {"ab0", "ab2", "ab4", "ab5"}


def test_many_clips_stay_within_the_limit(tmp_path: Path) -> None:
    limit = 2 * 256 * SIZE
    cache = LatentCache(tmp_path / "auto-1", "block_dct", "text", create=True, limit=limit)
    for number in range(60):
        cache.write(f"{number % 4:02x}{number}", Cached(LATENTS, "", None))
    assert len(list(tmp_path.glob("auto-1/*/*.safetensors"))) == 8
    with pytest.raises(OSError, match=r"needs dataloader_train.cache_gib >= 1"):
        make_room(tmp_path, "ab", 2**22 + 1, 2**30)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fault", ["file too large", "little space", "unwritable from the start"])
def test_a_disk_that_takes_no_more_is_told_of_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The same writer serves all steps of a run."""
    place = tmp_path / "file/latents" if fault == "unwritable from the start" else tmp_path
    (tmp_path / "file").touch()
    with logged("cosmos_vfm") as lines:
        family = family_of(place)
        if family.cache is not None:
            writer = LatentWriter(family.cache)
            if fault == "little space":
                usage = type(shutil.disk_usage(tmp_path))(1000, 951, 49)
                monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
            with largest_file(4000 if fault == "file too large" else resource.RLIM_INFINITY):
                for number in range(100):
                    writer.write([f"ab{number}", "", f"cd{number}"], torch.stack([LATENTS] * 3))
                writer.close()
    assert not list(tmp_path.glob("*/*/*"))
    assert prepared(family, Stored()).video.dtype == torch.uint8
    assert len(lines) == 1
    assert str(tmp_path) in lines[0]
    assert "training" in lines[0]


def test_what_was_encoded_is_written_by_the_end_of_the_run(tmp_path: Path) -> None:
    cache = cache_of(family_of(tmp_path))
    writer = LatentWriter(cache)
    writer.write(["ab1", "", "ab3"], torch.stack([LATENTS, LATENTS + 1, LATENTS + 2]))
    writer.close()
    first, missing, third = (cache.read(identity, "") for identity in ("ab1", "ab2", "ab3"))
    assert first is not None
    assert third is not None
    assert torch.equal(first.latents, LATENTS)
    assert torch.equal(third.latents, LATENTS + 2)
    assert missing is None
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
