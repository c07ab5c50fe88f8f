"""The generator's own recipe through the command line, cut to a few steps: ranks, damage, resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.command import cosmos, losses, metric_records

ALLOW = "dataloader_train.max_bad_sample_fraction=0.2"

SHORT = (
    "trainer.max_iter=4",
    "scheduler.cycle_lengths=[4]",
    "scheduler.warm_up_steps=[1]",
    "trainer.validation_iter=2",
    "checkpoint.save_iter=2",
    "trainer.callbacks.every_n_draw_sample.every_n=0",
    "trainer.callbacks.every_n_draw_sample.steps=2",
    "trainer.callbacks.every_n_draw_sample.count=2",
    "dataloader_val.max_samples_per_batch=4",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generator") / "data"
    cosmos("data", "prepare", "bridge", "--synthetic", "40", "--val", "8", "-o", str(root))
    return root


def train(root: Path, data: Path, name: str, *extra: str, code: int = 0) -> tuple[Path, str]:
    processes = ("--output-root", str(root), *SHORT, *extra)
    done = cosmos("run", "vision_sft_demo", f"job.name={name}", *processes, env={"DATASET_PATH": str(data)}, code=code)
    return root / "cosmos3/sft" / name, done.stderr


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("alone"), data, "alone", "dataloader_train.max_samples_per_batch=8")[0]


def test_samples_are_drawn_before_and_after(alone: Path) -> None:
    folder = alone / "EveryNDrawSample"
    for name in ("step_000000000.png", "step_000000004.png", "comparison.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    for step in ("step_000000000", "step_000000004"):
        assert {path.name for path in (folder / step).iterdir()} == {
            *("sample_00.mp4", "sample_00.txt", "sample_01.mp4", "sample_01.txt")
        }


def test_workers_change_no_loss(data: Path, alone: Path, tmp_path: Path) -> None:
    helped, _ = train(
        tmp_path, data, "helped", "dataloader_train.max_samples_per_batch=8", "dataloader_train.num_workers=2"
    )
    assert losses(helped) == losses(alone)


def test_a_stopped_generator_run_continues_exactly(data: Path, alone: Path, tmp_path: Path) -> None:
    size = "dataloader_train.max_samples_per_batch=8"
    run_dir, _ = train(tmp_path, data, "again", size)
    shutil.rmtree(run_dir / "checkpoints/iter_000000004")
    _, log = train(tmp_path, data, "again", size)
    assert "iter_000000002" in log
    assert losses(run_dir) == losses(alone)


def test_a_token_cap_packs_fewer_clips_and_trains(data: Path, tmp_path: Path) -> None:
    run_dir, log = train(
        tmp_path,
        data,
        "packed",
        "dataloader_train.max_samples_per_batch=null",
        "dataloader_train.max_sequence_length=300",
    )
    tokens = [record["tokens"] for record in metric_records(run_dir) if "loss" in record]
    assert all(200 < count < 300 for count in tokens)
    assert "sequences of at most 300 tokens: " in log
    assert "% empty" in log


def test_damaged_clips_are_skipped_with_path_and_count(data: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "data"
    shutil.copytree(data, damaged)
    videos = sorted((damaged / "train/videos").iterdir())
    videos[3].write_bytes(videos[3].read_bytes()[:400])
    videos[7].unlink()
    _, log = train(
        tmp_path, damaged, "damaged", "dataloader_train.max_samples_per_batch=20", "trainer.max_iter=2", ALLOW
    )
    for path in (videos[3], videos[7]):
        assert str(path) in log
    assert "skipped 2 of 40 samples" in log or "skipped 2 of 41 samples" in log or "skipped 2 of 42 samples" in log


def test_too_many_damaged_clips_end_the_run_with_the_reasons(data: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "data"
    shutil.copytree(data, damaged)
    for path in list((damaged / "train/videos").iterdir())[:20]:
        path.unlink()
    _, log = train(tmp_path, damaged, "damaged", code=2)
    assert "file is missing" in log
    assert "max_bad_sample_fraction" in log
    assert "Traceback" not in log


def test_an_empty_dataset_is_an_error_with_the_reason(data: Path, tmp_path: Path) -> None:
    _, log = train(tmp_path, data, "none", "dataloader_train.dataset.min_window_frames=61", code=2)
    assert "40 x no window of at least 61 frames" in log
    assert "Traceback" not in log


def test_a_mixed_precision_run_stores_float32_weights(data: Path, tmp_path: Path) -> None:
    run_dir, _ = train(tmp_path, data, "mixed", "model.precision=bfloat16", "dataloader_train.max_samples_per_batch=8")
    from cosmos_core.checkpoint.reader import SafeReader

    stored = SafeReader(run_dir / "checkpoints/iter_000000004/model").read_metadata().state_dict_metadata
    assert {value.properties.dtype for value in stored.values()} == {torch.float32}
    assert json.loads((run_dir / "outcome.json").read_text())["outcome"] == "done"


def test_selected_parameters_alone_train(data: Path, tmp_path: Path) -> None:
    from cosmos_core.checkpoint.reader import stored_keys

    keys = 'optimizer.keys_to_select=["moe_gen", "time_embedder", "vae2llm", "llm2vae"]'
    run_dir, _ = train(tmp_path, data, "selected", keys, "dataloader_train.max_samples_per_batch=8")
    last = run_dir / "checkpoints/iter_000000004"
    moments = {name for name in stored_keys(last / "optim") if name.endswith("exp_avg")}
    chosen = ("moe_gen", "time_embedder", "vae2llm", "llm2vae")
    assert moments
    assert all(any(key in name for key in chosen) for name in moments)
    averaged = {name for name in stored_keys(last / "model") if name.startswith("net_ema.")}
    assert all(any(key in name for key in chosen) for name in averaged)


def test_clips_that_the_datasets_rules_leave_out_are_counted_at_the_start_and_the_end(
    data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "data")
    index = tmp_path / "data/train/video_dataset_file.jsonl"
    records = [json.loads(line) for line in index.read_text().splitlines()]
    for record in records[:18]:
        record["duration"] = 70.0
    records[20]["t2w_windows"].append({"start_frame": 0, "end_frame": 5, "temporal_interval": 1, "caption": "short"})
    index.write_text("".join(json.dumps(record) + "\n" for record in records))
    _, log = train(tmp_path, tmp_path / "data", "fewer", "dataloader_train.max_samples_per_batch=8")
    assert log.count("left out of dataset 'bridge': 18 x longer than 61 s, 1 x windows under 17 frames") >= 1
    first = ", ".join(record["uuid"] for record in records[:3])
    assert f"18 x longer than 61 s (such as {first}), 1 x windows" in log


def test_a_run_does_not_resume_on_other_captions_but_its_weights_start_another(data: Path, tmp_path: Path) -> None:
    copy, size = tmp_path / "copy", "dataloader_train.max_samples_per_batch=8"
    shutil.copytree(data, copy)
    run_dir, _ = train(tmp_path, copy, "first", size, "trainer.max_iter=2")
    index = copy / "train/video_dataset_file.jsonl"
    index.write_text("\n".join(reversed(index.read_text().splitlines())) + "\n")
    assert "resume from" in train(tmp_path, copy, "first", size, "trainer.max_iter=3")[1]
    index.write_text(index.read_text().replace("red", "crimson"))
    _, said = train(tmp_path, copy, "first", size, code=2)
    assert "the data, or its order, has changed" in said
    weights = run_dir / "checkpoints/iter_000000002/model"
    assert "checkpoint.load_path=.../iter_<N>/model" in said
    second, _ = train(tmp_path, copy, "second", size, f"checkpoint.load_path={weights}")
    assert min(losses(second)) == 1
    assert losses(second)[1][0] < losses(run_dir)[1][0]
