"""Names of files: any that a file system takes works everywhere, any other is one sentence with exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import cosmos

NAME = "-[x]*? #100% 'q\" $HOME ü 视频 🎬"
SHORT = (
    "trainer.max_iter=2",
    "trainer.max_val_iter=1",
    "scheduler.warm_up_steps=[1]",
    "dataloader_train.max_samples_per_batch=2",
    "trainer.callbacks.every_n_draw_sample.count=1",
    "trainer.callbacks.every_n_draw_sample.steps=1",
)


def run_bytes(*arguments: str | bytes, cwd: Path, **env: str | bytes) -> tuple[int, bytes]:
    """Exit code and stderr of a command in a process of its own; arguments and variables may be any bytes."""
    variables = {os.fsencode(name): os.fsencode(value) for name, value in {**os.environ, **env}.items()}
    command = [sys.executable, "-m", "cosmos_core", *arguments]
    done = subprocess.run(command, capture_output=True, cwd=cwd, env=variables)
    return done.returncode, done.stderr


def refused(*arguments: str | bytes, cwd: Path, **env: str | bytes) -> str:
    code, stderr = run_bytes(*arguments, cwd=cwd, **env)
    text = stderr.decode()
    assert code == 2, text
    assert "Traceback" not in text
    assert text.count("error:") == 1
    return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in a folder of that name with a line break, whose clips and samples are called so, too."""
    place = tmp_path_factory.mktemp("names") / f"{NAME}\n"
    cosmos("data", "prepare", "bridge", "--synthetic", "4", "--val", "2", "-o", str(place / "data"))
    for index in place.glob("data/*/video_dataset_file.jsonl"):
        records = [json.loads(line) for line in index.read_text().splitlines()]
        for record in records:
            video = index.parent / record["vision_path"]
            renamed = video.rename(video.with_name(f"{NAME}\n{video.name}"))
            record.update(uuid=f"{NAME}\n{record['uuid']}", vision_path=f"videos/{renamed.name}")
        index.write_text("".join(json.dumps(record) + "\n" for record in records))
    (place / f"{NAME}.toml").write_text('extends = "vision_sft_demo"\n')
    return place


def test_a_name_of_every_kind_trains_in_the_c_locale_and_is_evaluated_exported_and_loaded(place: Path) -> None:
    data = {"DATASET_PATH": str(place / "data")}
    command = ("run", f"./{NAME}.toml", *SHORT, f"job.name={json.dumps(NAME, ensure_ascii=False)}")
    code, stderr = run_bytes(*command, "--output-root", str(place / "runs"), cwd=place, LC_ALL="C", **data)
    assert code == 0, stderr.decode()
    run_dir = place / "runs/cosmos3/sft" / NAME
    assert "val_loss" in cosmos("eval", str(run_dir), env=data).stdout
    cosmos("export", str(run_dir), "-o", str(place / "exported"), env=data)
    base = f"checkpoint.load_path={run_dir}/checkpoints/iter_000000002/model"
    cosmos("data", "cache", "vision_sft_demo", "-o", str(place / "latents"), env=data)
    cache = f"dataloader_train.cache={place / 'latents'}"
    start = ("model.init=pretrained", base, cache, "trainer.max_iter=1", "trainer.run_validation=false")
    done = cosmos("run", "vision_sft_demo", *SHORT, *start, "--output-root", str(place / "more"), env=data)
    assert "outcome: done" in done.stdout


def test_a_terminal_that_lacks_the_characters_shows_escapes(tmp_path: Path) -> None:
    command = ("run", "hello", "--dry-run", "job.name=视频🎬", "--output-root", str(tmp_path))
    assert "\\u89c6\\u9891\\U0001f3ac" in cosmos(*command, env={"PYTHONIOENCODING": "latin-1"}).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", b"./mine\xff.toml"),
        ("run", b"mine\xff"),
        ("run", "vision_sft_demo", "--dry-run", b"dataloader_train.dataset.path=/data/\xff"),
        ("run", "hello", "--dry-run", b'"job.\xff"=3'),
        ("run", "hello", "--dry-run", b"job.name=\xff"),
        ("run", "hello", "--dry-run", "--output-root", b"runs\xff"),
        ("recipes", "copy", "hello", b"mine\xff.toml"),
        ("data", "prepare", "bridge", "--synthetic", "4", "-o", b"data\xff"),
        ("convert", b"base\xff", "-o", "base"),
    ],
    ids=lambda arguments: repr(arguments[-1]),
)
def test_arguments_with_bytes_that_are_not_utf_8_are_one_sentence(
    arguments: tuple[str | bytes, ...], tmp_path: Path
) -> None:
    (tmp_path / os.fsdecode(b"mine\xff.toml")).write_text('extends = "hello"\n')
    assert "\\udcff" in refused(*arguments, cwd=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_variable_and_a_working_directory_with_such_bytes_are_one_sentence(tmp_path: Path) -> None:
    text = refused("run", "vision_sft_demo", "--dry-run", cwd=tmp_path, DATASET_PATH=b"/data/\xff")
    assert "dataloader_train.dataset.path: holds bytes that are not UTF-8: '/data/\\udcff'" in text
    place = tmp_path / os.fsdecode(b"here\xff")
    place.mkdir()
    assert "the path of the run directory holds bytes that are not UTF-8" in refused("run", "hello", cwd=place)
    elsewhere = ("run", "hello", "--output-root", str(tmp_path / "runs"), "checkpoint.load_path=base")
    assert "checkpoint.load_path: holds bytes that are not UTF-8" in refused(*elsewhere, cwd=place)
    assert not list(place.iterdir())


@pytest.mark.parametrize("length", [300, 5000])
@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "./{long}.toml"),
        ("run", "hello", "--dry-run", "job.name={long}"),
        ("run", "hello", "--dry-run", "--output-root", "{long}"),
        ("run", "hello", "--fresh", "--output-root", "{long}"),
        ("run", "hello", "checkpoint.load_path={long}"),
        ("run", "vision_sft_demo", "dataloader_train.dataset.path={long}"),
        ("run", "vision_sft_demo", "model.tokenizer.type=wan22", "model.tokenizer.vae_path={long}"),
        ("run", "videophy2_demo", "model.backbone.model_name=./{long}"),
        ("recipes", "copy", "hello", "{long}"),
    ],
    ids=lambda arguments: arguments[-1],
)
def test_a_name_that_is_too_long_is_one_sentence(arguments: tuple[str, ...], length: int, tmp_path: Path) -> None:
    # 5000 letters in parts that each are short enough.
    long = "n" * length if length < 4096 else "/".join(["n" * 99] * (length // 100))
    error = cosmos(*(argument.format(long=long) for argument in arguments), cwd=tmp_path, code=2).stderr
    assert "Traceback" not in error
    assert error.count("error:") == 1


def test_a_place_that_may_not_be_written_is_one_sentence(tmp_path: Path) -> None:
    """The kernel's own folder, which even root may not write into."""
    error = refused("recipes", "copy", "hello", "/sys/mine.toml", cwd=tmp_path)
    assert "/sys/mine.toml  Permission denied" in error or "/sys/mine.toml  Read-only file system" in error


@pytest.mark.parametrize("name", ['"a\\u0000b"', '"a\\nb"', '"a\\u001bb"', '" a"'], ids=str)
def test_a_run_name_with_control_characters_is_one_sentence(name: str, tmp_path: Path) -> None:
    error = cosmos("run", "hello", f"job.name={name}", cwd=tmp_path, code=2).stderr
    assert "command line  job.name: " in error
    assert "Traceback" not in error


@pytest.mark.ranks
@pytest.mark.parametrize("command", [("run", "hello", "--nproc", "2", *SHORT[:3]), ("doctor", "--quick", "--offline")])
def test_a_file_in_the_current_folder_is_not_taken_for_a_module_of_that_name(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    script = tmp_path / "bin/cosmos"  # Python looks for modules beside a script, and not in the current folder.
    script.parent.mkdir()
    script.write_text("from cosmos_core.__main__ import main\n\nif __name__ == '__main__':\n    main()\n")
    for name in ("grp", "queue", "selectors", "types"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('no module')\n")
    done = subprocess.run([sys.executable, script, *command], capture_output=True, text=True, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert "no module" not in said
    assert "died" not in said
    assert "nothing broken" in said or "outcome: done" in said
