"""`cosmos runs`: lists, facts and differences; removing asks, and spares what is running."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cosmos_core.cli.main import root_command
from cosmos_core.config.problems import render
from cosmos_core.errors import UserError
from cosmos_core.hub.reference import Snapshot
from cosmos_core.plan import source
from cosmos_core.plugin import PluginManager
from tests.unit.logged import logged
from tests.unit.report.run_folders import aged, checkpoint, run_folder

DONE = {"outcome": "done", "step": 10}


def runs(*arguments: str | Path, root: Path, answer: str = "", command: str = "runs") -> Result:
    plugins = PluginManager.discover()
    return CliRunner(env={"IMAGINAIRE_OUTPUT_ROOT": str(root)}).invoke(
        root_command(plugins), [command, *map(str, arguments)], obj=plugins, input=answer
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    old = run_folder(tmp_path, "old", outcome=DONE)
    checkpoint(old, 10, size=3 * 2**20)
    aged(old, 90_000)
    run_folder(tmp_path, "new", steps=7, rate=0.01, outcome={"outcome": "diverged", "error": "loss is NaN\n  at 7"})
    return tmp_path


def test_the_list_has_the_newest_first_with_the_reason_of_a_failure(root: Path) -> None:
    header, new, old = runs("list", root=root).stdout.splitlines()
    assert header.split() == ["run", "state", "step", "loss", "val_loss", "age", "disk", "why"]
    assert new.split()[:5] == ["cosmos3/sft/new", "failed", "7/20", "0.5", "0.4"]
    assert new.endswith("0.0 MiB  loss is NaN")
    assert old.split()[:7] == ["cosmos3/sft/old", "done", "10/10", "0.5", "0.4", "1", "d"]
    rows = json.loads(runs("list", root / "cosmos3", "--json", root=root).stdout)
    assert [(row["state"], row["why"]) for row in rows] == [("failed", "loss is NaN\n  at 7"), ("done", "")]
    assert rows[1]["size"] > 3 * 2**20
    assert runs("list", root=root / "empty").stdout == f"no runs below {root / 'empty'}\n"


def test_one_run_is_shown_with_its_checkpoints(root: Path) -> None:
    shown = runs("show", "old", root=root).stdout
    assert "recipe: hello\n" in shown
    assert "checkpoints: iter_000000010 (3.0 MiB)\n" in shown
    assert json.loads(runs("show", root / "cosmos3/sft/old", "--json", root=root).stdout)["last"]["tokens/s"] == 200


def test_a_comparison_has_what_differs_and_the_last_metrics(root: Path) -> None:
    lines = [line.split() for line in runs("compare", "old", "new", root=root).stdout.splitlines()]
    assert lines[:3] == [["old", "new"], ["state", "done", "failed"], ["optimizer.lr", "0.001", "0.01"]]
    assert ["val_loss", "0.4", "0.4"] in lines
    compared = json.loads(runs("compare", "old", "new", "--json", root=root).stdout)
    assert compared["settings"] == {"optimizer.lr": [0.001, 0.01]}
    assert compared["last"]["step"] == [10, 7]


def test_a_report_of_named_runs_is_written_where_asked(root: Path) -> None:
    page = root / "pages/two.html"
    runs_of_report = ["--root", root, "old", "new", root / "cosmos3/sft/old", "-o", page]
    assert runs(*runs_of_report, root=root, command="report").stdout == f"report: {page}\n"
    text = page.read_text()
    assert "loss is NaN" in text
    assert "<td>optimizer.lr</td>" in text
    failed = runs("nothing", root=root, command="report")
    assert isinstance(failed.exception, UserError)


def test_a_run_without_files_is_as_old_as_its_folder(tmp_path: Path) -> None:
    (tmp_path / "cosmos3/sft/empty/launches/1").mkdir(parents=True)
    (tmp_path / "cosmos3/sft/empty/checkpoints").mkdir()
    assert "changed: 0 s ago" in runs("show", "empty", root=tmp_path).stdout


def test_removing_asks_first(root: Path) -> None:
    old = root / "cosmos3/sft/old"
    refused = runs("remove", "old", root=root, answer="n\n")
    assert refused.exit_code == 1
    assert "done at step 10/10, 3.0 MiB" in refused.stdout
    assert old.is_dir()
    assert runs("remove", "old", root=root, answer="y\n").exit_code == 0
    assert not old.exists()
    assert runs("remove", "new", "--yes", root=root).exit_code == 0
    assert not list(root.glob("*/*/*"))


def test_nothing_but_runs_is_removed(root: Path) -> None:
    (root / "precious").mkdir()
    failed = runs("remove", root / "precious", "old", "--yes", root=root)
    assert isinstance(failed.exception, UserError)
    assert "is no run" in render(failed.exception)
    assert (root / "precious").is_dir()
    assert (root / "cosmos3/sft/old").is_dir()


def test_a_running_run_is_told_and_stays(root: Path) -> None:
    run = run_folder(root, "busy", steps=3)
    hold = (
        "import sys\nfrom pathlib import Path\nfrom cosmos_core.launch.run_lock import run_lock\n"
        "from cosmos_core.plan.paths import RunPaths\n"
        "with run_lock(RunPaths(Path(sys.argv[1]))):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert "running" in runs("show", "busy", root=root).stdout
    failed = runs("remove", "old", "busy", "--yes", root=root)
    assert isinstance(failed.exception, UserError)
    assert f"process {holder.pid}" in render(failed.exception)
    assert run.is_dir()
    assert (root / "cosmos3/sft/old").is_dir()
    holder.communicate()
    assert "ended without a word" in runs("show", "busy", root=root).stdout


def test_a_hundred_runs_are_listed_at_once_without_torch(tmp_path: Path) -> None:
    outcomes: Sequence[dict[str, object] | None] = (DONE, None)
    for number in range(100):
        folder = run_folder(tmp_path, f"run{number}", steps=50, outcome=outcomes[number % 2])
        for step in (10, 20, 30, 40):
            checkpoint(folder, step)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom cosmos_core.launch.run_lock import is_locked\n"
        "from cosmos_core.plan.runs import find_runs\n"
        "from cosmos_core.report.run_status import read_status\n"
        "started = time.process_time()\n"
        "found = [read_status(path, is_running=is_locked) for path in find_runs(Path(sys.argv[1]))]\n"
        "print(len(found), time.process_time() - started, 'torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    count, seconds, *heavy = done.stdout.split()
    assert (count, heavy) == ("100", ["False", "False"])
    assert float(seconds) < 0.5, f"{seconds} s of a processor"  # 0.07 s on an idle machine.


def test_a_recipe_or_published_name_that_a_run_has_too_tells_of_the_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGINAIRE_OUTPUT_ROOT", str(root))
    monkeypatch.setattr(source, "locate_checkpoint", lambda name, registry: Snapshot(Path("/published"), ""))
    run, published = run_folder(root, "hello"), run_folder(root, "Cosmos3-Nano")
    with logged() as lines:
        refused = runs("hello", "no.such=1", root=root, command="eval").exception
        assert source.named_folder("Cosmos3-Nano", PluginManager.discover()) == Path("/published")
    assert isinstance(refused, UserError)
    assert "no: unknown section" in render(refused)
    assert lines == [
        f"hello is a recipe and also a run; the run is left aside: give {run} to take it",
        f"Cosmos3-Nano is a published name and also a run; the run is left aside: give {published} to take it",
    ]
