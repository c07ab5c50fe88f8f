"""A checkpoint of the cosmos-framework training scripts: resumed, its weights alone taken, its average exported."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from diffusers import Cosmos3OmniTransformer
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemWriter

from cosmos_core.checkpoint import DcpWeights
from cosmos_vfm.checkpoints.names import to_diffusers
from tests.command import cosmos, losses

SHORT = (
    "trainer.max_iter=4",
    "scheduler.cycle_lengths=[6]",
    "scheduler.warm_up_steps=[1]",
    "trainer.run_validation=false",
    "trainer.callbacks.every_n_draw_sample.steps=1",
    "trainer.callbacks.every_n_draw_sample.count=1",
    "dataloader_train.max_samples_per_batch=4",
)


def train(root: Path, name: str, *more: str, code: int = 0) -> tuple[Path, str]:
    arguments = ("run", "vision_sft_demo", f"job.name={name}", "--output-root", str(root), *SHORT, *more)
    done = cosmos(*arguments, env={"DATASET_PATH": str(root / "data")}, code=code)
    return root / "cosmos3/sft" / name, done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reference")
    cosmos("data", "prepare", "bridge", "--synthetic", "16", "--val", "2", "-o", str(root / "data"))
    return root


@pytest.fixture(scope="module")
def iteration(root: Path) -> Path:
    """Weights and an average of the whole network, moments, a LambdaLR's state, packed random states; no data state."""
    run_dir, _ = train(root, "source")
    ours, theirs = run_dir / "checkpoints/iter_000000004", root / "theirs/iter_000000004"
    for part in ("model", "optim"):
        shutil.copytree(ours / part, theirs / part)
    packed = {"numpy_packed_len": 3, "numpy_packed_bytes": torch.zeros(4096, dtype=torch.uint8)}
    packed |= {"random_packed_len": 3, "random_packed_bytes": torch.zeros(4096, dtype=torch.uint8)}
    rng = {"torch": torch.get_rng_state(), **packed}
    scheduler = {"base_lrs": [3e-3], "last_epoch": 4, "_step_count": 5, "_last_lr": [1e-3], "lr_lambdas": [None]}
    for part, state in {
        "trainer": {"grad_scaler": {}, "iteration": 4, "rng_state_0": rng},
        "scheduler": {**scheduler, "verbose": False},
    }.items():
        dcp.save(state, storage_writer=FileSystemWriter(theirs / part), no_dist=True)
    return theirs


def test_training_goes_on_after_its_last_step_with_its_moments(root: Path, iteration: Path) -> None:
    run_dir, log = train(root, "goes_on", f"checkpoint.load_path={iteration}", "trainer.max_iter=6")
    assert "resume from" in log
    assert "it starts from the beginning" in log
    assert sorted(losses(run_dir)) == [5, 6]
    saved = DcpWeights(run_dir / "checkpoints/iter_000000006/model", "live")
    assert saved.infos.keys() == DcpWeights(iteration / "model", "live").infos.keys()


def test_its_weights_alone_start_a_run(root: Path, iteration: Path) -> None:
    more = (f"checkpoint.load_path={iteration / 'model'}", "trainer.max_iter=1", "model.init=pretrained")
    run_dir, log = train(root, "starts", *more)
    assert "warm from" in log
    assert sorted(losses(run_dir)) == [1]


def test_it_exports_without_a_run_around_it(iteration: Path, tmp_path: Path) -> None:
    for kind in ("ema", "live"):
        output = tmp_path / kind
        cosmos("export", str(iteration), "-o", str(output), "--task", "vfm", "--weights", kind, "--verify")
        _, report = Cosmos3OmniTransformer.from_pretrained(output / "transformer", output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        stored = DcpWeights(iteration / "model", kind)
        found = load_file(output / "transformer/diffusion_pytorch_model.safetensors")
        values = stored.read(list(stored.infos))
        assert all(torch.equal(found[to_diffusers(name)], value) for name, value in values.items())


def test_a_data_state_of_another_program_is_left_alone(root: Path, iteration: Path, tmp_path: Path) -> None:
    other = tmp_path / "iter_000000004"
    shutil.copytree(iteration, other)
    (other / "dataloader").mkdir()
    torch.save({"epoch": 1, "index": 7}, other / "dataloader/rank_0.pkl")
    _, log = train(root, "other", f"checkpoint.load_path={other}", "trainer.max_iter=5")
    assert "it starts from the beginning" in log


def test_a_base_named_from_the_working_folder_is_found_from_any_other(root: Path, tmp_path: Path) -> None:
    base = train(root, "near", "trainer.max_iter=1")[0] / "checkpoints/iter_000000001/model"
    shutil.copytree(base, tmp_path / "base/model")
    (tmp_path / "base/base.json").write_text('{"config": {}, "origin": "here"}')
    (tmp_path / "base/components/vae").mkdir(parents=True)
    (tmp_path / "base/components/vae/config.json").write_text("{}")
    arguments = ("run", "vision_sft_demo", "--output-root", str(tmp_path), *SHORT, "trainer.max_iter=1")
    started = (*arguments, "checkpoint.load_path=base", "model.init=pretrained")
    cosmos(*started, env={"DATASET_PATH": str(root / "data")}, cwd=tmp_path)
    printed = cosmos("export", str(tmp_path / "cosmos3/sft/vision_sft_demo"), "-o", str(tmp_path / "out"), cwd=root)
    assert "components: vae" in printed.stdout
