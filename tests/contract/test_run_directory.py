"""The run directory that the training guide promises, from a real run of the `hello` recipe."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit
import torch
import yaml

from cosmos_core.checkpoint.reader import stored_keys
from tests.command import cosmos, metric_records

SECRETS = {
    "WANDB_API_KEY": "wandb-secret-1234",
    "HF_TOKEN": "hf_secret_5678",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-9",
    "DATASET_PATH": "https://user:password-42@host/data",
}

OVERRIDES = ["optimizer.lr=5e-3", "dataloader_train.dataset.broken=9", "dataloader_train.max_bad_sample_fraction=0.5"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    env = {**SECRETS, "IMAGINAIRE_OUTPUT_ROOT": str(root)}
    printed = cosmos("run", "hello", *OVERRIDES, env=env).stdout
    run_dir = root / "cosmos3/sft/hello"
    assert printed.splitlines() == [
        "outcome: done",
        f"run_dir: {run_dir}",
        f"checkpoints: {run_dir / 'checkpoints'}",
        f"metrics: {run_dir / 'metrics.jsonl'}",
        f"report: {run_dir / 'report.html'}",
    ]
    page = (run_dir / "report.html").read_text()
    assert "optimizer.lr=5e-3" in page
    assert "broken on purpose (while reading)" in page
    return run_dir


def test_the_last_lines_name_only_what_is_there(tmp_path: Path) -> None:
    root = ("--output-root", str(tmp_path))
    printed = cosmos("run", "hello", "trainer.max_iter=2", "trackers.jsonl.enabled=false", *root).stdout
    places = [Path(line.partition(": ")[2]) for line in printed.splitlines()[1:]]
    assert len(places) == 3
    assert all(place.exists() for place in places), printed


def test_configuration_is_written_in_three_forms_that_agree(run_dir: Path) -> None:
    plain = tomlkit.parse((run_dir / "config.toml").read_text()).unwrap()
    assert plain["optimizer"]["lr"] == 5e-3
    as_yaml = yaml.safe_load((run_dir / "config.yaml").read_text())
    as_pickle = pickle.loads((run_dir / "config.pkl").read_bytes())
    assert as_yaml["optimizer"]["lr"] == as_pickle["optimizer"]["lr"] == 5e-3
    assert as_yaml["trainer"]["max_iter"] == as_pickle["trainer"]["max_iter"] == plain["trainer"]["max_iter"] == 60


def test_launch_info_says_what_was_started(run_dir: Path) -> None:
    info = yaml.safe_load((run_dir / "launch_info.yaml").read_text())
    assert info["args_cfg_path"] == "hello"
    assert info["args_override"] == OVERRIDES
    newest = yaml.safe_load((run_dir / "launches/1/launch_info.yaml").read_text())
    assert newest["left_out"]["training data"]["broken on purpose (while reading)"] >= 8
    assert info["processes"] == 1
    assert "cosmos-core" in info["distributions"]


def test_no_secret_reaches_the_run_directory(run_dir: Path) -> None:
    recorded = yaml.safe_load((run_dir / "job_env.yaml").read_text())
    assert recorded["DATASET_PATH"] == "https://***@host/data"
    assert recorded["PYTORCH_ALLOC_CONF"] == "expandable_segments:True", "what runs set is recorded too"
    words = [b"wandb-secret-1234", b"hf_secret_5678", b"aws-secret-9", b"password-42"]
    for path in run_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(word in content for word in words), path


def test_the_launch_says_how_long_each_phase_of_its_start_took(run_dir: Path) -> None:
    seconds = yaml.safe_load((run_dir / "launch_info.yaml").read_text())["startup_seconds"]
    phases = ["imports", "devices", "data", "plan", "family", "network", "weights", "callbacks", "first step"]
    assert list(seconds) == phases
    assert all(0 <= value < 60 for value in seconds.values())


def test_checkpoints_have_the_contract_layout(run_dir: Path) -> None:
    checkpoints = run_dir / "checkpoints"
    names = {path.name for path in checkpoints.iterdir()}
    assert names == {"iter_000000020", "iter_000000040", "iter_000000060", "latest_checkpoint.txt"}
    assert (checkpoints / "latest_checkpoint.txt").read_text().strip() == "iter_000000060"
    last = checkpoints / "iter_000000060"
    for component in ("model", "optim", "scheduler", "trainer"):
        assert (last / component / ".metadata").is_file()
        assert list((last / component).glob("*.distcp"))
    state = torch.load(last / "dataloader/rank_0.pkl", weights_only=True)
    assert state["world"] == 1


def test_checkpoint_keys_are_the_reference_names(run_dir: Path) -> None:
    last = run_dir / "checkpoints/iter_000000060"
    model = stored_keys(last / "model")
    assert {"net.embed.weight", "net_ema.embed.weight"} <= model
    assert all(name.startswith(("net.", "net_ema.")) for name in model)
    optim = stored_keys(last / "optim")
    assert {
        "state.net.embed.weight.exp_avg",
        "state.net.embed.weight.step",
        "param_groups.net.embed.weight.lr",
    } <= optim
    trainer = stored_keys(last / "trainer")
    assert "iteration" in trainer
    assert any(name.startswith("rng_state_0.") for name in trainer)


def test_metrics_hold_one_row_a_step_and_the_validations(run_dir: Path) -> None:
    steps = [record for record in metric_records(run_dir) if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 61))
    for record in steps:
        assert {"step", "loss", "lr", "grad_norm", "tokens", "seconds", "data_wait"} <= record.keys()
    assert steps[0]["lr"] == 0.0
    validations = [record for record in metric_records(run_dir) if "val_loss" in record]
    assert [record["step"] for record in validations] == [0, 20, 40, 60]
    assert validations[-1]["val_loss"] < 0.5 * validations[0]["val_loss"]


def test_callbacks_have_folders_and_the_loss_curve_is_a_picture(run_dir: Path) -> None:
    assert (run_dir / "grad_clip").is_dir()
    assert (run_dir / "loss_curve/loss_curve.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_of_wandb_is_there_when_it_is_off(run_dir: Path) -> None:
    assert not (run_dir / "wandb").exists()
    assert not (run_dir / "wandb_id.txt").exists()


def test_the_outcome_is_recorded(run_dir: Path) -> None:
    outcome = json.loads((run_dir / "outcome.json").read_text())
    assert (outcome["outcome"], outcome["step"]) == ("done", 60)


def test_running_a_finished_run_again_does_nothing_and_says_so(run_dir: Path) -> None:
    before = (run_dir / "metrics.jsonl").read_bytes()
    env = {"IMAGINAIRE_OUTPUT_ROOT": str(run_dir.parents[2])}
    printed = cosmos("run", "hello", *OVERRIDES, env=env).stdout
    assert printed.startswith("complete at step 60; nothing to do\n")
    assert "outcome: done" in printed
    assert (run_dir / "metrics.jsonl").read_bytes() == before


def test_a_full_disk_below_the_last_lines_makes_no_mistake_of_a_run_that_is_done(run_dir: Path) -> None:
    command = [sys.executable, "-m", "cosmos_core", "run", "hello", *OVERRIDES, "--output-root", run_dir.parents[2]]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    text = f"warning: No space left on device: standard output; the outcome is 'done', in {run_dir}\n"
    assert (done.returncode, done.stderr) == (0, text)
