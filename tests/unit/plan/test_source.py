"""What a folder is, told from names alone."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from shutil import rmtree

import pytest

from cosmos_core.errors import UserError
from cosmos_core.plan import hold as hold_module
from cosmos_core.plan import source as source_module
from cosmos_core.plan.hold import Hold, held_in_turn, unheld
from cosmos_core.plan.paths import BASE_FILE, LAUNCH_FILE
from cosmos_core.plan.source import check_reads, find_source, identify
from cosmos_core.plugin import PluginManager

PLUGINS = PluginManager.discover()


def dcp(folder: Path, *parts: str) -> Path:
    """A folder with these components, each as empty as it may be."""
    for part in parts:
        (folder / part).mkdir(parents=True)
        (folder / part / ".metadata").write_bytes(b"")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two launches; each left a checkpoint."""
    root = tmp_path / "run"
    for number in (1, 2):
        checkpoint = dcp(root / f"checkpoints/iter_00000000{number}", "model", "trainer")
        (checkpoint / LAUNCH_FILE).write_text(json.dumps({"format": 1, "launch": number}))
        (root / f"launches/{number}").mkdir(parents=True)
        (root / f"launches/{number}/config.toml").write_text("")
    (root / "config.toml").write_text("")
    return root


@pytest.mark.parametrize("step", [None, 1])
def test_a_checkpoint_that_is_removed_before_it_is_held_has_a_successor(
    run: Path, monkeypatch: pytest.MonkeyPatch, step: int | None
) -> None:
    class Late(Hold):
        def __init__(self, checkpoint: Path) -> None:
            if checkpoint.name == "iter_000000001":
                rmtree(checkpoint)
                (run / "away").rename(run / "checkpoints/iter_000000002")
            super().__init__(checkpoint)

    (run / "checkpoints/iter_000000002").rename(run / "away")
    monkeypatch.setattr(source_module, "Hold", Late)
    if step is None:
        assert find_source(run, PLUGINS).weights == run / "checkpoints/iter_000000002"
    else:
        with pytest.raises(UserError, match="holds no complete checkpoint of step 1"):
            find_source(run, PLUGINS, step=1)


def test_a_checkpoint_that_cannot_be_held_is_read_all_the_same(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where folders get new numbers all the time, and in a process with as many open files as it may have."""

    def gone(checkpoint: Path) -> Hold:
        raise FileNotFoundError(checkpoint)

    def refused(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(source_module, "Hold", gone)
        assert find_source(run, PLUGINS).weights == run / "checkpoints/iter_000000002"
    with monkeypatch.context() as patched:
        patched.setattr(hold_module.os, "open", refused)
        Hold(run)


def test_checkpoints_are_held_one_at_a_time(run: Path) -> None:
    first, second = sorted((run / "checkpoints").iterdir())
    turns = held_in_turn([first, run / "removed", second])
    for turn in (first, second):
        assert next(turns) == turn
        for checkpoint in (first, second):
            with unheld(checkpoint) as free:
                assert free == (checkpoint != turn)


def test_a_run_is_its_latest_checkpoint_and_the_launch_that_trained_it(run: Path) -> None:
    for path in (run, run / "checkpoints"):
        source = find_source(path, PLUGINS)
        assert (source.kind, source.run_dir) == ("run", run)
        assert source.weights == run / "checkpoints/iter_000000002"
        assert source.record == run / "launches/2/config.toml"
    first = find_source(run, PLUGINS, step=1)
    assert first.weights == run / "checkpoints/iter_000000001"
    assert first.record == run / "launches/1/config.toml"


def test_a_checkpoint_knows_its_run_also_through_a_link_and_from_its_model_folder(run: Path, tmp_path: Path) -> None:
    (tmp_path / "best").symlink_to(run / "checkpoints/iter_000000001")
    for path in (run / "checkpoints/iter_000000001", run / "checkpoints/iter_000000001/model", tmp_path / "best"):
        source = find_source(path, PLUGINS)
        assert (source.kind, source.run_dir) == ("checkpoint", run)
        assert source.record == run / "launches/1/config.toml"


def test_a_run_that_saved_nothing_has_no_weights(tmp_path: Path) -> None:
    (tmp_path / "launches/1").mkdir(parents=True)
    source = find_source(tmp_path, PLUGINS)
    assert (source.kind, source.weights, source.record) == ("run", None, None)


def test_a_base_is_one_wherever_it_lies(run: Path, tmp_path: Path) -> None:
    """Two folders below a run, where a checkpoint would take the run's configuration for its own."""
    for place in (tmp_path / "base", run / "kept/base"):
        dcp(place, "model")
        (place / BASE_FILE).write_text("{}")
        assert find_source(place, PLUGINS).kind == "base"
        assert find_source(place / "model", PLUGINS).record is None
    assert find_source(dcp(tmp_path / "weights", "model"), PLUGINS).kind == "base"


def test_an_export_that_lies_in_its_run_as_model_is_an_export(run: Path) -> None:
    """Where the training guide of the published scripts puts it."""
    (run / "model").mkdir()
    (run / "model/config.json").write_text('{"model_type": "qwen3_vl"}')
    source = find_source(run / "model", PLUGINS)
    assert (source.kind, source.format) == ("published", "qwen3_vl")
    assert find_source(run, PLUGINS).kind == "run"


def test_a_format_belongs_to_the_family_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    source = find_source(tmp_path, PLUGINS)
    check_reads(source, "vlm", PLUGINS)
    with pytest.raises(UserError) as refused:
        check_reads(source, "vfm", PLUGINS)
    assert refused.value.problems[0].hint == "take a recipe of task 'vlm'"


@pytest.mark.parametrize("content", ["", "[]", '{"model_type": "bert"}', '{"model_type": '])
def test_a_folder_of_something_else_lists_what_was_looked_for(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert identify(tmp_path, PLUGINS) is None
    with pytest.raises(UserError) as refused:
        find_source(tmp_path, PLUGINS)
    message = "\n".join(problem.message for problem in refused.value.problems)
    assert "checkpoints/" in message
    assert "model/.metadata" in message
    assert "'vfm': looked for format cosmos3" in message
    assert "'vlm': looked for format qwen3_vl" in message


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        find_source(tmp_path / "none", PLUGINS)
    assert "is no folder" in refused.value.problems[0].message


def test_a_step_that_was_not_saved_names_those_that_were(run: Path) -> None:
    with pytest.raises(UserError, match="no complete checkpoint of step 7") as refused:
        find_source(run, PLUGINS, step=7)
    assert refused.value.problems[0].hint == "there are 1, 2"
