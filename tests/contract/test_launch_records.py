"""Each launch's record is kept; the run directory itself holds what trained, and a finished run is left alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit
import yaml

from cosmos_core.launch.run_lock import run_lock
from cosmos_core.plan.paths import RunPaths
from tests.command import cosmos, metric_records, module

RECORD = ("config.toml", "config.yaml", "config.pkl", "launch_info.yaml", "job_env.yaml")
SHORT = (
    "scheduler.cycle_lengths=[40]",
    "scheduler.warm_up_steps=[1]",
    "trainer.run_validation=false",
    "trainer.logging_iter=1",
    "checkpoint.save_iter=2",
)


def command(root: Path, steps: int, *more: str) -> tuple[str, ...]:
    return ("run", "hello", *SHORT, f"trainer.max_iter={steps}", *more, "--output-root", str(root))


def directory(root: Path, name: str = "hello") -> Path:
    return root / "cosmos3/sft" / name


def content(run_dir: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file with the time of its last change."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run_dir.rglob("*") if path.is_file()}


def rate(record: Path) -> float:
    return tomlkit.parse((record / "config.toml").read_text()).unwrap()["optimizer"]["lr"]


def trained_by(run_dir: Path, step: int) -> object:
    return json.loads((run_dir / f"checkpoints/iter_{step:09d}/launch.json").read_text())


def same(first: Path, second: Path) -> bool:
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in RECORD)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two launches: steps 1 and 2 at one rate, 3 and 4 at another."""
    root = tmp_path_factory.mktemp("finished")
    cosmos(*command(root, 2, "optimizer.lr=1e-3"))
    cosmos(*command(root, 4, "optimizer.lr=2e-3"))
    return root


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "own")
    return tmp_path / "own"


def test_each_launch_keeps_its_record_and_the_newest_that_trained_is_in_the_contracts_place(finished: Path) -> None:
    run_dir = directory(finished)
    assert {path.name for path in (run_dir / "launches").iterdir()} == {"1", "2"}
    assert (rate(run_dir / "launches/1"), rate(run_dir / "launches/2"), rate(run_dir)) == (1e-3, 2e-3, 2e-3)
    assert same(run_dir, run_dir / "launches/2")
    info = yaml.safe_load((run_dir / "launches/1/launch_info.yaml").read_text())
    assert "optimizer.lr=1e-3" in info["args_override"]


def test_each_checkpoint_names_the_launch_that_trained_it(finished: Path) -> None:
    run_dir = directory(finished)
    assert [trained_by(run_dir, step) for step in (2, 4)] == [{"format": 1, "launch": n} for n in (1, 2)]


@pytest.mark.parametrize(
    ("overrides", "differing"),
    [
        (("trainer.max_iter=4", "optimizer.lr=0.5"), ("optimizer.lr 0.002 -> 0.5",)),
        (("trainer.max_iter=3", "optimizer.lr=2e-3"), ("trainer.max_iter 4 -> 3",)),
        (("trainer.max_iter=4", "model.hidden=3"), ("model.hidden 16 -> 3", "cannot change model.hidden")),
        (("trainer.max_iter=4", "optimizer.lr=2e-3"), ()),
    ],
    ids=["another rate", "fewer steps", "another model", "the same"],
)
def test_a_finished_run_says_so_and_is_left_as_it_is(
    own: Path, overrides: tuple[str, ...], differing: tuple[str, ...]
) -> None:
    before = content(own)
    done = cosmos(*command(own, 4, *overrides))
    assert done.stdout.startswith("complete at step 4; nothing to do\nto continue: trainer.max_iter=M with M above 4\n")
    assert "to train anew: job.name=NAME" in done.stdout
    assert all(text in done.stdout for text in differing)
    assert ("differs from what trained iter_000000004 (launch 2)" in done.stdout) == bool(differing)
    assert content(own) == before
    assert "# complete at step 4; nothing to do" in cosmos(*command(own, 4, *overrides, "--dry-run")).stdout


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_a_finished_run_starts_nothing_and_needs_no_torch(own: Path, ranks: str) -> None:
    arguments = ["cosmos", *command(own, 4, "optimizer.lr=2e-3", "--nproc", ranks)]
    code = (
        "import subprocess, sys\n"
        "from cosmos_core.cli.main import main\n"
        "subprocess.Popen = None\n"
        f"sys.argv = {arguments!r}\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout


def test_a_run_that_is_going_on_is_not_called_finished(own: Path) -> None:
    with run_lock(RunPaths(directory(own))):
        said = cosmos(*command(own, 4), code=2)
    assert "the run directory is in use" in said.stderr
    assert "nothing to do" not in said.stdout


@pytest.mark.ranks
def test_a_finished_run_under_torchrun_says_so_once(own: Path) -> None:
    before = content(own)
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cosmos_core")
    assert module(*torchrun, *command(own, 4, "optimizer.lr=2e-3")).stdout.count("nothing to do") == 1
    assert content(own) == before


def test_more_steps_continue_a_finished_run(own: Path) -> None:
    said = cosmos(*command(own, 6, "optimizer.lr=2e-3")).stderr
    assert "resume from" in said
    assert trained_by(directory(own), 6) == {"format": 1, "launch": 3}


def test_a_launch_that_trains_no_step_leaves_the_record_and_keeps_its_own(own: Path) -> None:
    """One sample is longer than the pack, which shows when the first batch is made."""
    run_dir = directory(own)
    before = {name: (run_dir / name).read_bytes() for name in RECORD}
    said = cosmos(*command(own, 6, "optimizer.lr=0.5", "dataloader_train.max_sequence_length=2"), code=2).stderr
    assert "can never fit" in said
    assert {name: (run_dir / name).read_bytes() for name in RECORD} == before
    assert rate(run_dir / "launches/3") == 0.5
    cosmos(*command(own, 6, "optimizer.lr=4e-3"))
    assert (rate(run_dir), trained_by(run_dir, 6)) == (4e-3, {"format": 1, "launch": 4})
    assert rate(run_dir / "launches/3") == 0.5


def test_a_refused_launch_writes_nothing(own: Path) -> None:
    before = content(own)
    cosmos(*command(own, 6, "model.hidden=3"), code=2)
    assert content(own) == before


def test_before_the_first_step_there_is_no_record_in_the_contracts_place(tmp_path: Path) -> None:
    cosmos(*command(tmp_path, 4, "dataloader_train.max_sequence_length=2"), code=2)
    run_dir = directory(tmp_path)
    assert not [name for name in RECORD if (run_dir / name).exists()]
    assert {path.name for path in (run_dir / "launches/1").iterdir()} == set(RECORD)
    said = cosmos("eval", str(run_dir), code=2).stderr
    assert "no launch in it has completed a step" in said
    cosmos(*command(tmp_path, 4))
    assert same(run_dir, run_dir / "launches/2")


@pytest.mark.ranks
def test_ranks_read_their_own_launchs_record(own: Path) -> None:
    """The one in the run directory still says what trained before."""
    run_dir = directory(own)
    (run_dir / "config.toml").write_text("this is no TOML")
    batch = "dataloader_train.max_samples_per_batch=8"
    cosmos(*command(own, 6, "optimizer.lr=7e-3", batch, "--nproc", "2"))
    assert rate(run_dir) == 7e-3
    assert max(record["lr"] for record in metric_records(run_dir) if record["step"] > 4) > 6e-3
    assert trained_by(run_dir, 6) == {"format": 1, "launch": 3}


def test_evaluation_of_a_checkpoint_reads_what_trained_it(own: Path) -> None:
    run_dir = str(directory(own))
    figures = cosmos("eval", run_dir, "--step", "4", "--json").stdout
    cosmos(*command(own, 6, "optimizer.lr=2e-3", "dataloader_val.dataset.count=3"))
    assert cosmos("eval", run_dir, "--step", "4", "--json").stdout == figures
    assert cosmos("eval", run_dir, "--step", "6", "--json").stdout != figures


def test_a_run_from_before_launches_had_numbers_keeps_its_record_too(own: Path) -> None:
    run_dir = directory(own)
    shutil.rmtree(run_dir / "launches")
    for step in (2, 4):
        (run_dir / f"checkpoints/iter_{step:09d}/launch.json").unlink()
    assert (
        "model.hidden: is 3, iter_000000004 was trained with 16"
        in cosmos(*command(own, 6, "model.hidden=3"), code=2).stderr
    )
    cosmos(*command(own, 5, "optimizer.lr=5e-3"))
    assert (rate(run_dir / "launches/0"), rate(run_dir / "launches/1"), rate(run_dir)) == (2e-3, 5e-3, 5e-3)
    old = f"checkpoint.load_path={run_dir / 'checkpoints/iter_000000004'}"
    plan = cosmos(*command(own, 6, "job.name=new", old, "--dry-run")).stdout
    assert "optimizer.lr 0.002 -> 0.01" in plan


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", '{"format": 2, "launch": 1}'),
        *(f'{{"format": 1, "launch": {number}}}' for number in ('"../x"', "true", "-5")),
    ],
)
def test_a_damaged_note_of_the_launch_is_one_clear_error(own: Path, text: str) -> None:
    note = directory(own) / "checkpoints/iter_000000004/launch.json"
    note.write_text(text)
    for arguments in (command(own, 6), ("eval", str(directory(own)))):
        said = cosmos(*arguments, code=2).stderr
        assert str(note) in said
        assert "Traceback" not in said


def test_a_launch_whose_record_is_gone_is_said_to_be_compared_with_the_runs_own(own: Path) -> None:
    run_dir = directory(own)
    shutil.rmtree(run_dir / "launches/2")
    plan = cosmos(*command(own, 6, "--dry-run")).stdout
    assert f"(the record of its launch is gone; settings are compared with {run_dir / 'config.toml'})" in plan


def test_an_old_runs_record_is_kept_although_a_first_launch_was_killed_before_it_was(own: Path) -> None:
    run_dir = directory(own)
    shutil.rmtree(run_dir / "launches")
    (run_dir / "launches").mkdir()
    for step in (2, 4):
        (run_dir / f"checkpoints/iter_{step:09d}/launch.json").unlink()
    cosmos(*command(own, 5, "optimizer.lr=5e-3"))
    assert (rate(run_dir / "launches/0"), rate(run_dir / "launches/1")) == (2e-3, 5e-3)
