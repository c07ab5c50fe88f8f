"""States, metrics and sizes of runs, as their directories tell them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cosmos_core.errors import UserError
from cosmos_core.plan import RunPaths
from cosmos_core.plan.leftovers import leftover_bytes
from cosmos_core.plan.runs import find_run, find_runs
from cosmos_core.report.media import pages_of
from cosmos_core.report.metrics_file import read_metrics
from cosmos_core.report.record import RunRecord, read_record
from cosmos_core.report.run_status import RunStatus, read_status, recorded_config
from cosmos_core.report.settings import differing_settings
from tests.unit.report.run_folders import checkpoint, run_folder, step_record
from tests.unit.vanishing import vanishing


def status(folder: Path, *, running: bool = False) -> RunStatus:
    return read_status(folder, is_running=lambda paths: running)


@pytest.mark.parametrize(
    ("outcome", "running", "state", "why"),
    [
        ({"outcome": "done", "step": 20}, False, "done", ""),
        ({"outcome": "stopped", "step": 10}, False, "stopped", ""),
        ({"outcome": "interrupted", "step": 10}, False, "stopped", ""),
        ({"outcome": "diverged", "error": "loss is NaN\n  at step 7"}, False, "failed", "loss is NaN\n  at step 7"),
        ({"outcome": "refused", "error": "no data"}, False, "failed", "no data"),
        (None, True, "running", ""),
        (None, False, "failed", "ended without a word"),
    ],
)
def test_the_state_is_that_of_the_last_launch(
    tmp_path: Path, outcome: dict[str, object] | None, running: bool, state: str, why: str
) -> None:
    read = status(run_folder(tmp_path, outcome=outcome), running=running)
    assert (read.state, read.loss, read.val_loss) == (state, 0.5, 0.4)
    assert read.why.startswith(why)
    assert bool(read.why) == bool(why)
    assert (read.step, read.total) == ((20, 20) if state == "done" else (10, 20))


def test_the_age_is_that_of_the_newest_file_and_a_report_does_not_count(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, outcome={"outcome": "done", "step": 10}, age=7200)
    (folder / "report.html").write_text("<html>")
    before = status(folder)
    assert 7190 < time.time() - before.changed < 7300
    checkpoint(folder, 10, size=5000)
    after = status(folder)
    assert after.size == before.size + 5000
    assert time.time() - after.changed < 60


def test_damaged_files_hide_nothing_else(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    (folder / "outcome.json").write_text('{"outcome": ')
    (folder / "config.toml").write_text("[[")
    (folder / "launches/1/config.toml").write_text("[[")
    (folder / "launches/1/launch_info.yaml").write_text("a: !!timestamp x")  # PyYAML raises an AttributeError.
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [lines[0], '{"step": 2, "lo', '["no record"]', '{"loss": 3}', '{"step": 3, "loss": null}', '{"step": -5}']
    (folder / "metrics.jsonl").write_bytes("\n".join(rows).encode() + b"\n\xff\xfe\n")
    metrics = read_metrics(folder / "metrics.jsonl")
    assert ([record["step"] for record in metrics.steps], metrics.damaged) == ([1, 3], 5)
    read = status(folder)
    assert (read.state, read.step, read.total, read.loss) == ("failed", 3, None, None)
    assert read_record(folder).last_metrics == {"step": 3}


@pytest.mark.parametrize(
    ("reading", "gone"),
    [
        (read_record, "iter_000000010/model"),
        (read_record, "iter_000000010"),
        (status, "iter_000000010/model"),
        (lambda run: pages_of(run, run), ".iter_000000012.partial"),
        (lambda run: leftover_bytes(RunPaths(run).checkpoints), ".iter_000000012.partial/model"),
    ],
)
def test_what_a_run_removes_while_it_is_read_is_left_out(
    tmp_path: Path, reading: Callable[[Path], object], gone: str
) -> None:
    run = run_folder(tmp_path)
    checkpoint(run, 10)
    checkpoint(run, 12).rename(run / "checkpoints/.iter_000000012.partial")
    with vanishing(run / "checkpoints" / gone):
        found = reading(run)
    if isinstance(found, RunRecord):
        assert [saved.size for saved in found.checkpoints] == ([0] if gone.endswith("model") else [])


def test_the_newest_record_of_a_long_file_is_read_without_the_rest(tmp_path: Path) -> None:
    """All of this file would not fit the memory."""
    folder = run_folder(tmp_path)
    with (folder / "metrics.jsonl").open("r+b") as file:
        file.seek(2**40)
        file.write(b"\n" + json.dumps(step_record(50_000)).encode() + b"\n")
    assert status(folder).step == 50_000


def test_runs_are_found_by_path_and_by_name(tmp_path: Path) -> None:
    first, second = run_folder(tmp_path, "first"), run_folder(tmp_path, "second")
    (tmp_path / "cosmos3/sft/no_run").mkdir()
    assert list(find_runs(tmp_path)) == [first, second]
    assert list(find_runs(tmp_path / "cosmos3")) == [first, second]
    assert list(find_runs(first)) == [first]
    assert find_run(str(first), tmp_path / "elsewhere") == first
    assert find_run("second", tmp_path) == second
    assert find_run("cosmos3/sft/first", tmp_path) == first
    assert find_run("first/", tmp_path) == find_run("cosmos3/sft/first/", tmp_path) == first
    with pytest.raises(UserError, match="secnd is no run") as failure:
        find_run("secnd", tmp_path)
    assert "second" in failure.value.problems[0].hint
    (tmp_path / "other/sft").mkdir(parents=True)
    second.rename(tmp_path / "other/sft/first")
    with pytest.raises(UserError, match="several runs"):
        find_run("first", tmp_path)


def test_only_settings_that_differ_are_compared(tmp_path: Path) -> None:
    runs = [run_folder(tmp_path, "first"), run_folder(tmp_path, "second", rate=0.001000001)]
    rows = differing_settings([recorded_config(run) for run in runs])
    assert [row.key for row in rows] == ["optimizer.lr"]
    other = {"job": {"task": "vfm"}, "optimizer": {"lr": 1}, "model": {"tier": "nano"}}
    rows = differing_settings([recorded_config(runs[0]), other])
    assert [row.key for row in rows] == ["job.task", "optimizer.lr"]


ROLLBACK = {"from": 9, "to": 5, "why": "loss nan, gradient norm 1", "samples": 20, "left_out": "left_out_1.jsonl"}


def test_the_record_names_every_member_of_a_mixture(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    mixed = '[[dataloader_train.mixture]]\ntype = "bridge"\nweight = 3.0\npath = "/my clips"\n'
    mixed += '[[dataloader_train.mixture]]\ntype = "folder"\nweight = 1.0\n'
    path = folder / "launches/1/config.toml"
    path.write_text(path.read_text().partition("[dataloader_train.dataset]")[0] + mixed)
    assert read_record(folder).facts["training data"] == "bridge /my clips (weight 3); folder (weight 1)"


def test_the_record_says_what_was_run_on_what(tmp_path: Path) -> None:
    info = {
        "weights": {"kind": "warm", "path": "/bases/nano", "origin": "nvidia/Cosmos3-Nano@abc"},
        "fetched": {"dataloader_train.dataset": "3 samples of clips (abc)"},
        "left_out": {"training data": {"too short": 3}},
        "startup_seconds": {"imports": 2.5},
        "rollbacks": {"1": ROLLBACK, "2": {"from": "x"}, "3": 7},
    }
    folder = run_folder(tmp_path, info=info)
    checkpoint(folder, 10)
    (folder / "checkpoints/iter_000000015/model").mkdir(parents=True)
    record = read_record(folder)
    assert record.facts["base"] == "nvidia/Cosmos3-Nano@abc"
    assert record.facts["training data"] == "tiny /data/clips"
    assert record.facts["recipe"] == "hello"
    assert record.facts["sources"] == "dataloader_train.dataset: 3 samples of clips (abc)"
    assert [(saved.step, saved.size, saved.complete) for saved in record.checkpoints] == [
        (10, 1000, True),
        (15, 0, False),
    ]
    assert record.launches[0].left_out == {"training data": {"too short": 3}}
    assert [rollback.text for rollback in record.rollbacks] == [
        "step 9 to 5 (loss nan, gradient norm 1), without 20 samples: launches/1/left_out_1.jsonl"
    ]
    assert record.last_metrics["tokens/s"] == 200
    assert RunPaths(folder).launch(1).config_toml.is_file()


def refused_launch(folder: Path, before: dict[str, object], **info: object) -> None:
    """The second launch of a run that ended as `before` says; it would have gone on to step 99."""
    (folder / "launches/2").mkdir()
    config = (folder / "config.toml").read_text().replace("max_iter = 20", "max_iter = 99")
    (folder / "launches/2/config.toml").write_text(config)
    text = yaml.safe_dump({"args_cfg_path": "other", "before": before, **info})
    (folder / "launches/2/launch_info.yaml").write_text(text)


@pytest.mark.parametrize(
    ("before", "state", "total"),
    [({"outcome": "done", "step": 10}, "done", 10), ({"outcome": "stopped"}, "stopped", 20)],
)
def test_a_launch_that_was_refused_before_it_trained_leaves_the_run_as_it_was(
    tmp_path: Path, before: dict[str, object], state: str, total: int
) -> None:
    folder = run_folder(tmp_path, outcome={"outcome": "refused", "error": "error: no data"})
    refused_launch(folder, before)
    read = status(folder)
    assert (read.state, read.step, read.total) == (state, 10, total)
    assert read.why == "the last launch was refused: no data"
    assert recorded_config(folder)["trainer"]["max_iter"] == 20
    assert read_record(folder).facts["recipe"] == "hello"


def test_a_launch_that_was_refused_while_it_trained_has_failed(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, outcome={"outcome": "refused", "error": "no data"})
    refused_launch(folder, {"outcome": "stopped"}, startup_seconds={"first step": 1.0})
    read = status(folder)
    assert (read.state, read.total, read.why) == ("failed", 99, "no data")
