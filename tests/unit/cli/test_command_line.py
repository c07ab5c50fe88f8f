"""The command line end to end: help, listings, exit codes, and errors without tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cosmos_core import __version__
from tests.command import cosmos


def test_help_shows_examples_and_commands() -> None:
    text = cosmos("--help").stdout
    for word in ("cosmos run vision_sft_demo", "recipes list", "plugins list", "data prepare"):
        assert word in text


def test_version() -> None:
    assert __version__ in cosmos("--version").stdout


def test_plugins_list_names_what_each_provides() -> None:
    found = {row["plugin"]: row for row in json.loads(cosmos("plugins", "list", "--json").stdout)}
    assert {"vfm", "bridge", "vlm", "videophy"} <= found.keys()
    assert all(row["state"] == "ok" for row in found.values())
    assert "task vfm" in found["vfm"]["provides"]
    assert "dataset bridge" in found["bridge"]["provides"]
    assert "5 recipes" in found["bridge"]["provides"]
    assert "vfm" in cosmos("plugins", "list").stdout


def test_plugins_show_says_what_each_contribution_is() -> None:
    shown = json.loads(cosmos("plugins", "show", "core", "--json").stdout)
    assert {"kind": "tracker", "name": "console", "summary": "Progress on the terminal"} in shown
    assert "Draws samples before" in cosmos("plugins", "show", "vfm").stdout
    assert "did you mean 'vfm'?" in cosmos("plugins", "show", "vfn", code=2).stderr
    disabled = cosmos("plugins", "show", "vfm", env={"COSMOS_DISABLE_PLUGINS": "vfm"}, code=2).stderr
    assert "plugin 'vfm' is disabled" in disabled
    assert "COSMOS_DISABLE_PLUGINS" in disabled


def test_a_disabled_plugin_takes_its_family_along() -> None:
    env = {"COSMOS_DISABLE_PLUGINS": "vfm"}
    rows = json.loads(cosmos("plugins", "list", "--json", env=env).stdout)
    assert next(row for row in rows if row["plugin"] == "vfm")["state"] == "disabled"
    error = cosmos("recipes", "show", "vision_sft_demo", env=env, code=2).stderr
    assert "vfm" in error
    assert "Traceback" not in error


def test_recipes_list_and_show() -> None:
    listed = cosmos("recipes", "list").stdout
    for recipe in ("hello", "vision_sft_demo", "vision_sft_nano", "vision_sft_super", "vision_sft_edge"):
        assert recipe in listed
    assert "max_sequence_length = 45056" in cosmos("recipes", "show", "vision_sft_nano").stdout
    origins = cosmos("recipes", "show", "vision_sft_edge", "--origins", "optimizer.lr=1e-5").stdout
    assert "command line" in origins
    assert "vision_sft_edge.toml" in origins


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "vision_sft_nanoo"), "vision_sft_nano"),
        (("run", "nowhere/recipe.toml"), "no such recipe file"),
        (("run", "hello", "optimizer.lrr=1"), "'lr'"),
        (("run", "hello", "optimizer.lr=fast"), "optimizer.lr"),
        (("run", "hello", "--nproc", "3", "model.parallelism.data_parallel_shard_degree=2"), "data_parallel_shard"),
        (("run", "hello", "job.wandb_mode=online"), "wandb"),
        (("run", "hello", "dataloader_train.dataset.type=bridge", "dataloader_train.dataset.path=x"), "bridge"),
        pytest.param(("run", "hello", "optimizer.keys_to_select=['heed']"), "head", marks=pytest.mark.torch),
        (("recipes", "show", "nothing"), "no recipe"),
        (("recipes", "copy", "hello", "no_such_folder/mine.toml"), "no such folder"),
        (("run", "hello", "--dry-run", "--output-root", f"{__file__}/runs"), "is a file; choose another --output-root"),
        (("run", "vision_sft_demo", "--dry-run", "dataloader_train.dataset.path="), "dataset.path: is empty; give"),
        (("frobnicate",), "frobnicate"),
        (("data", "prepare", "bridge", "--synthetic", "0", "-o", "x"), "--synthetic"),
    ],
)
def test_a_mistake_is_one_clear_error_with_exit_code_2(
    arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    done = cosmos(*arguments, env={"IMAGINAIRE_OUTPUT_ROOT": str(tmp_path)}, code=2)
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_below_the_output_is_one_sentence(unbuffered: str) -> None:
    command = [sys.executable, "-m", "cosmos_core", "recipes", "list"]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device: standard output\n")


@pytest.mark.parametrize(("stdout", "code"), [("/dev/null", 0), ("/dev/full", 2)])
def test_a_full_disk_below_the_messages_changes_no_exit_code(stdout: str, code: int) -> None:
    command = [sys.executable, "-m", "cosmos_core", "recipes", "list"]
    with Path(stdout).open("w") as output, Path("/dev/full").open("w") as full:
        assert subprocess.run(command, stdout=output, stderr=full).returncode == code
        assert subprocess.run([*command, "--bad"], stdout=output, stderr=full).returncode == 2


@pytest.mark.parametrize(("arguments", "code"), [("recipes list", 0), ("config reference --bad", 2)])
def test_a_reader_that_leaves_changes_no_exit_code(arguments: str, code: int) -> None:
    """As `head` does, here before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "cosmos_core", *arguments.split()]
    assert subprocess.run(command, stdout=writer, stderr=writer).returncode == code
    os.close(writer)


def test_streams_may_be_closed_and_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    """As a daemon starts its children, and as a shell stays where another one removed the folder."""
    python = f'"{sys.executable}" -m cosmos_core runs list'
    script = f'{python} . >&- 2>&- && cd "$(mktemp -d)" && rmdir "$PWD" && exec {python}'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the current folder is gone; nothing was started\n")


@pytest.mark.torch
def test_two_ranks_train_where_the_streams_are_closed(tmp_path: Path) -> None:
    """As a daemon starts its children; descriptors 0 to 2 would be those of files and sockets."""
    python = f'"{sys.executable}" -m cosmos_core run hello --nproc 2 --output-root .'
    script = f"{python} trainer.max_iter=2 'scheduler.warm_up_steps=[1]' trainer.run_validation=false <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", script], cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "cosmos3/sft/hello/outcome.json").read_text())["outcome"] == "done"


def test_a_missing_dataset_and_vae_are_named_with_the_remedy(tmp_path: Path) -> None:
    env = {"DATASET_PATH": str(tmp_path / "none"), "IMAGINAIRE_OUTPUT_ROOT": str(tmp_path / "out")}
    error = cosmos("run", "vision_sft_nano", "model.init=random", "checkpoint.load_path=null", env=env, code=2).stderr
    assert "cosmos data prepare bridge" in error
    assert "WAN_VAE_PATH" in error
    assert not (tmp_path / "out").exists()


def test_a_dry_run_prints_configuration_and_plan_and_writes_nothing(tmp_path: Path) -> None:
    text = cosmos("run", "hello", "--dry-run", "--nproc", "2", "--output-root", str(tmp_path)).stdout
    assert "max_iter = 60" in text
    assert "processes: 2 (shard 2" in text
    assert str(tmp_path / "cosmos3/sft/hello") in text
    assert not list(tmp_path.iterdir())


@pytest.mark.torch
def test_a_failing_run_keeps_its_traceback_and_exits_with_1(tmp_path: Path) -> None:
    log = tmp_path / "cosmos3/sft/hello/logs/rank_0.log"
    log.parent.mkdir(parents=True)
    log.symlink_to(log)
    done = cosmos("run", "hello", "--output-root", str(tmp_path), code=1)
    assert "Traceback" in done.stderr
    assert json.loads((tmp_path / "cosmos3/sft/hello/outcome.json").read_text())["outcome"] == "failed"
