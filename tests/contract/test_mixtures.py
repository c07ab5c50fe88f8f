"""Mixtures and changed data through the command line: what is refused, what is told, and a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import cosmos, metric_records

SHORT = (
    "trainer.run_validation=false",
    "trainer.logging_iter=1",
    "scheduler.warm_up_steps=[1]",
    "scheduler.cycle_lengths=[8]",
    "dataloader_train.max_samples_per_batch=3",
)
CLIPS = 'type = "bridge"\nresolution = "64"\nmin_window_frames = 17\n'


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixture")
    for name, count in (("one", "6"), ("two", "5")):
        cosmos("data", "prepare", "bridge", "--synthetic", count, "--val", "1", "-o", str(root / name))
    return root


def recipe(folder: Path, *members: str) -> str:
    text = 'extends = "vision_sft_demo"\nunset = ["dataloader_train.dataset"]\n'
    (folder / "mixed.toml").write_text(text + "".join(f"[[dataloader_train.mixture]]\n{one}" for one in members))
    return str(folder / "mixed.toml")


def clips(root: Path, name: str, weight: float, more: str = "") -> str:
    return f'{CLIPS}name = "{name}"\nweight = {weight}\npath = "{root / name}"\n{more}'


def run(path: str, root: Path, steps: int, *more: str, code: int = 0) -> str:
    where = ("job.name=mixed", f"trainer.max_iter={steps}", "--output-root", str(root))
    return cosmos("run", path, *SHORT, *where, *more, code=code, env={"DATASET_PATH": "unused"}).stderr


def test_what_is_wrong_with_every_member_is_told_at_once_with_its_key(data: Path, tmp_path: Path) -> None:
    (tmp_path / "three").mkdir()
    members = [clips(data, "one", 1), clips(tmp_path, "gone", 1), clips(tmp_path, "three", 1)]
    dialogs = f'type = "chat"\nweight = 1\npath = "{tmp_path}/dialogs.jsonl"\nmedia_roots = ["/nowhere"]\n'
    said = run(recipe(tmp_path, *members, dialogs), tmp_path, 2, code=2)
    assert "Traceback" not in said
    for words in (
        f"dataloader_train.mixture[1].path: no such folder: {tmp_path}/gone",
        f"dataloader_train.mixture[2].path: no such file: {tmp_path}/three/train/video_dataset_file.jsonl",
        "dataloader_train.mixture[3].type: dataset 'chat' yields 'chat', model family 'vfm' accepts video_text",
        f"dataloader_train.mixture[3].path: no such folder: {tmp_path}/dialogs.jsonl",
        "dataloader_train.mixture[3].media_roots[0]: no such folder: /nowhere",
        "dataloader_train.mixture: its members are of several kinds: 'bridge' yields 'video_text'",
    ):
        assert words in said
    assert "dataloader_train.mixture[0]" not in said


def test_a_mixture_trains_resumes_with_other_weights_and_goes_on_when_accepted_rows_changed(
    data: Path, tmp_path: Path
) -> None:
    path = recipe(tmp_path, clips(data, "one", 2), clips(data, "two", 1))
    assert "66.7% one: bridge in " in run(path, tmp_path, 2)
    run_dir = tmp_path / "cosmos3/sft/mixed"
    rows = metric_records(run_dir)
    assert [(row["samples/one"], row["samples/two"]) for row in rows] == [(2, 1)] * 2
    assert all(row["loss"] == pytest.approx((2 * row["loss/one"] + row["loss/two"]) / 3) for row in rows)

    path = recipe(tmp_path, clips(data, "one", 1), clips(data, "two", 2))
    log = run(path, tmp_path, 4)
    assert "(launch 1): dataloader_train.mixture[0].weight 2 -> 1" in log
    assert sum(row["samples/two"] for row in metric_records(run_dir)[2:]) == 4

    index = data / "two/train/video_dataset_file.jsonl"
    _, second, *lines = index.read_text().splitlines()
    new = {**json.loads(second), "uuid": "a clip of another name"}
    index.write_text("\n".join([second, *lines, json.dumps(new)]) + "\n")
    said = run(path, tmp_path, 6, code=2)
    assert "dataloader_train.mixture[1]: is 5 samples of train/" in said
    assert '`changed = "accept"` in its table' in said

    path = recipe(tmp_path, clips(data, "one", 1), clips(data, "two", 2, 'changed = "accept"\n'))
    log = run(path, tmp_path, 6)
    assert "warning: dataloader_train.mixture[1] is 5 samples of train/" in log
    assert "goes on with" in log
    assert "dataloader_train.mixture[1]: is 5 samples of" in (run_dir / "launch_info.yaml").read_text()
    assert [row["step"] for row in metric_records(run_dir)] == [*range(1, 7)]
