"""What one rank cannot use ends all of them at once: by name, with what was trained saved, without a traceback."""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from cosmos_core.config.problems import render
from cosmos_core.data.video import write_mp4
from cosmos_core.errors import UserError
from cosmos_core.launch import launch
from cosmos_core.launch.stop import StopRequests
from tests.command import cosmos, metric_records, module

SHORT = (
    "trainer.max_iter=12",
    "scheduler.cycle_lengths=[12]",
    "scheduler.warm_up_steps=[1]",
    "trainer.run_validation=false",
    "checkpoint.save_iter=100",
    "trainer.callbacks.every_n_draw_sample.steps=1",
    "trainer.callbacks.every_n_draw_sample.count=1",
    "dataloader_train.shuffle=false",
    "dataloader_train.max_samples_per_batch=1",
)
SMALL = 9
FRAMES = 85


def digest(uuid: str) -> bytes:
    return sha256(uuid.encode()).digest()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine short clips, then a long one: one process meets it in step 10, the second of two in step 5."""
    root = tmp_path_factory.mktemp("refused") / "data"
    cosmos("data", "prepare", "bridge", "--synthetic", str(SMALL), "--val", "2", "-o", str(root))
    index = root / "train/video_dataset_file.jsonl"
    records = [json.loads(line) for line in index.read_text().splitlines()]
    last = max(digest(record["uuid"]) for record in records)
    uuid = next(name for name in (f"long{number}" for number in count()) if digest(name) > last)
    pixels = np.random.default_rng(0).integers(0, 256, (FRAMES, 64, 64, 3), np.uint8)
    write_mp4(root / f"train/videos/{uuid}.mp4", pixels, 5)
    window = {**records[0]["t2w_windows"][0], "start_frame": 0, "end_frame": FRAMES - 1}
    record = {**records[0], "uuid": uuid, "vision_path": f"videos/{uuid}.mp4", "duration": 17, "t2w_windows": [window]}
    index.write_text("".join(json.dumps(one) + "\n" for one in [*records, record]))
    return root


def refused(root: Path, data: Path, *more: str) -> tuple[Path, str]:
    """Run directory and message."""
    begun = time.monotonic()
    arguments = ("run", "vision_sft_demo", "job.name=run", "--output-root", str(root), *SHORT, *more)
    said = cosmos(*arguments, env={"DATASET_PATH": str(data)}, code=2).stderr
    assert "Traceback" not in said
    assert said.count("error:") == 1, said
    assert time.monotonic() - begun < 180
    return root / "cosmos3/sft/run", said


@pytest.mark.ranks
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_sample_that_can_never_fit_is_named_and_what_was_trained_is_kept(
    data: Path, tmp_path: Path, ranks: int
) -> None:
    run_dir, said = refused(tmp_path, data, "--nproc", str(ranks), "dataloader_train.max_sequence_length=90")
    assert "sample long" in said
    assert "can never fit under 90" in said
    done = {1: 9, 2: 4}[ranks]
    assert (run_dir / "checkpoints/latest_checkpoint.txt").read_text().strip() == f"iter_{done:09d}"
    assert [record["step"] for record in metric_records(run_dir) if "loss" in record] == list(range(1, done + 1))
    assert json.loads((run_dir / "outcome.json").read_text())["outcome"] == "refused"


@pytest.mark.ranks
def test_the_models_own_cap_on_packs_counts_too(data: Path, tmp_path: Path) -> None:
    _, said = refused(tmp_path, data, "--nproc", "2", "model.max_num_tokens_after_packing=90")
    assert "can never fit under 90" in said
    assert "model.max_num_tokens_after_packing" in said


@pytest.mark.ranks
def test_data_that_one_rank_cannot_read_ends_all(data: Path, tmp_path: Path) -> None:
    """Every file of the second rank is cut short."""
    broken = tmp_path / "broken"
    (broken / "train/videos").mkdir(parents=True)
    index = (data / "train/video_dataset_file.jsonl").read_text()
    (broken / "train/video_dataset_file.jsonl").write_text(index)
    records = sorted((json.loads(line) for line in index.splitlines()), key=lambda one: digest(one["uuid"]))
    for place, record in enumerate(records):
        whole = (data / "train" / record["vision_path"]).read_bytes()
        (broken / "train" / record["vision_path"]).write_bytes(whole[:100] if place % 2 else whole)
    (broken / "val").symlink_to(data / "val")
    _, said = refused(tmp_path, broken, "--nproc", "2")
    assert "samples cannot be used" in said


ALONE = """
import importlib, os
from cosmos_core.errors import UserError
from cosmos_core.launch.error_files import error_recorded

def run(plan, plugins, **options):
    import torch
    torch.distributed.init_process_group("gloo")
    with error_recorded():
        if os.environ["RANK"] == "1":
            raise UserError("only this rank knows")
        torch.distributed.all_reduce(torch.zeros(1))  # The other one never comes.

importlib.import_module("cosmos_core.train.run").run = run
"""


@pytest.mark.ranks
def test_ranks_that_wait_for_a_refused_one_are_ended(data: Path, tmp_path: Path) -> None:
    """Outside of what ranks agree on, a rank may leave while others wait for it in a collective."""
    (tmp_path / "sitecustomize.py").write_text(ALONE)
    arguments = ("run", "vision_sft_demo", "job.name=run", "--output-root", str(tmp_path), "--nproc", "2", *SHORT)
    begun = time.monotonic()
    said = cosmos(*arguments, env={"DATASET_PATH": str(data), "PYTHONPATH": first_on_path(tmp_path)}, code=2).stderr
    assert "error: only this rank knows" in said
    assert said.count("error:") == 1
    assert "Traceback" not in said
    assert time.monotonic() - begun < 180
    assert json.loads((tmp_path / "cosmos3/sft/run/outcome.json").read_text())["outcome"] == "refused"


UNMOUNTED = """
import os

if os.environ.get("RANK") == "1":
    import importlib

    def read_index(config):
        raise OSError(5, "Input/output error", config.path)

    importlib.import_module("cosmos_data_bridge.index").read_index = read_index
"""


@pytest.mark.ranks
def test_data_that_one_rank_cannot_open_ends_all_before_a_network_is_built(data: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(UNMOUNTED)
    arguments = ("run", "vision_sft_demo", "job.name=run", "--output-root", str(tmp_path), "--nproc", "2", *SHORT)
    said = cosmos(*arguments, env={"DATASET_PATH": str(data), "PYTHONPATH": first_on_path(tmp_path)}, code=2).stderr
    assert "error: dataset 'bridge' cannot be opened; nothing was started" in said
    assert f"{data}  Input/output error" in said
    assert said.count("error:") == 1
    assert "Traceback" not in said
    assert "attention:" not in said, "a network was built"


CRASH = """
import importlib, os

def run(plan, plugins, **options):
    if os.environ["RANK"] == "1":
        raise KeyError("a bug")
    import torch.distributed
    torch.distributed.init_process_group("gloo")  # The other one never comes.

importlib.import_module("cosmos_core.train.run").run = run
"""


@pytest.mark.ranks
def test_a_rank_that_crashes_keeps_its_traceback_and_ends_all(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    command = (*HELLO, "--output-root", str(tmp_path), "--nproc", "2")
    begun = time.monotonic()
    said = cosmos(*command, env={"PYTHONPATH": first_on_path(tmp_path)}, code=1).stderr
    assert "KeyError: 'a bug'" in said
    assert "Traceback" in said
    assert "Root Cause" in said
    assert said.rstrip().splitlines()[-1].startswith("error: rank 1 failed with KeyError: 'a bug'")
    assert time.monotonic() - begun < 180
    outcome = json.loads((tmp_path / "cosmos3/sft/hello/outcome.json").read_text())
    assert (outcome["outcome"], outcome["error"]) == ("failed", "rank 1: KeyError: 'a bug'")


def first_on_path(folder: Path) -> str:
    """PYTHONPATH with `folder` in front, whose ``sitecustomize.py`` every interpreter runs."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


HELLO = ("run", "hello", "trainer.max_iter=6", "scheduler.cycle_lengths=[6]", "checkpoint.save_iter=100")
UNFIT = ("dataloader_val.max_sequence_length=2", "trainer.run_validation_on_start=false")


@pytest.mark.ranks
@pytest.mark.parametrize("ranks", [1, 2])
def test_validation_data_that_can_never_fit_costs_no_step(tmp_path: Path, ranks: int) -> None:
    command = (*HELLO, *UNFIT, "trainer.validation_iter=4", "--nproc", str(ranks), "--output-root", str(tmp_path))
    said = cosmos(*command, code=2).stderr
    assert "dataloader_val.max_sequence_length" in said
    assert "Traceback" not in said
    run_dir = tmp_path / "cosmos3/sft/hello"
    assert (run_dir / "checkpoints/latest_checkpoint.txt").read_text().strip() == "iter_000000004"


@pytest.mark.ranks
def test_a_refusal_under_torchrun_leaves_no_traceback_of_its_record(tmp_path: Path) -> None:
    """Ranks resolve the name apart; only the first one's directory exists."""
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cosmos_core", *HELLO)
    more = (*UNFIT, "trainer.validation_iter=4", "job.name=at_${now:%H%M%S%f}", "--output-root", str(tmp_path))
    said = module(*torchrun, *more, code=None).stderr
    assert "dataloader_val.max_sequence_length" in said
    assert "FileNotFoundError" not in said
    (run_dir,) = (tmp_path / "cosmos3/sft").iterdir()
    assert json.loads((run_dir / "outcome.json").read_text())["outcome"] == "refused"


@pytest.mark.ranks
def test_a_rank_that_cannot_read_the_record_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cosmos(*HELLO, "--output-root", str(tmp_path))
    run_dir = tmp_path / "cosmos3/sft/hello"
    (run_dir / "outcome.json").unlink()
    (run_dir / "launches/1/config.toml").write_text('[job]\ntask = "tiny"\nnome = "x"\n')
    with pytest.raises(UserError) as refusal:
        launch(run_dir, 1, 2, StopRequests())
    assert "job.nome: unknown key" in render(refusal.value)
    assert "Traceback" not in capfd.readouterr().err
    assert json.loads((run_dir / "outcome.json").read_text())["outcome"] == "refused"


@pytest.mark.ranks
def test_plugins_that_are_switched_off_are_so_in_every_rank(tmp_path: Path) -> None:
    command = (*HELLO, "trainer.run_validation=false", "--nproc", "2", "--output-root", str(tmp_path))
    cosmos(*command, env={"COSMOS_DISABLE_PLUGINS": "bridge", "PYTHONPATH": first_on_path(watching(tmp_path))})
    seen = {path.read_text() for path in (tmp_path / "seen").iterdir()}
    assert len(list((tmp_path / "seen").iterdir())) >= 3
    assert seen == {"['bridge']"}


def watching(folder: Path) -> Path:
    """A folder whose code every interpreter runs: it notes what plugin managers are told to leave out."""
    (folder / "seen").mkdir()
    (folder / "sitecustomize.py").write_text(f"""
import os
from cosmos_core.plugin import manager

discover = manager.PluginManager.discover.__func__

def noting(cls, disabled=frozenset()):
    with open({str(folder / "seen")!r} + f"/{{os.getpid()}}", "w") as file:
        file.write(str(sorted(disabled)))
    return discover(cls, disabled)

manager.PluginManager.discover = classmethod(noting)
""")
    return folder
