"""Input that nobody meant to give: files from other editors, overrides of the wrong shape, an odd environment."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from cosmos_core.config.document import read_document
from cosmos_core.config.env import job_environment, launched_rank, output_root, prepare_device_memory, rendezvous
from cosmos_core.config.interpolate import interpolate
from cosmos_core.config.overrides import parse_overrides
from cosmos_core.config.problems import render
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import find_recipe
from cosmos_core.recipes.loading import load
from cosmos_core.recipes.peek import peek
from tests.command import cosmos

PLUGINS = PluginManager.discover()


def refused(recipe: str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load(recipe, overrides, plugins=PLUGINS)
    return render(error.value)


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'\xef\xbb\xbfsummary = "Mine"\r\nextends = "hello"\r\n[optimizer]\r\nlrr = 1\r\n')
    assert "mine.toml:4  optimizer.lrr: unknown key" in refused(str(path))
    assert peek(path).summary == "Mine"


@pytest.mark.parametrize("text", ["[optimizer]\nlr = 1\nlr = 2\n", "optimizer = 1\n\n[optimizer]\n"])
def test_a_key_that_is_there_twice_has_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError) as error:
        read_document(tmp_path / "mine.toml")
    assert error.value.problems[0].line == 3


@pytest.mark.parametrize("line", ['requires = "torch"', "requires = 3", "summary = 3", "not_yet = true"])
def test_what_stands_above_the_tables_has_the_right_type(line: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'extends = "hello"\n{line}\n')
    assert f"mine.toml:2  {line.partition(' ')[0]}: expected a" in refused(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("text", ["[trainer]\n[job]\n[trainer]\nmax_iter = 1\n", "\n\nextends = hello\n"])
def test_a_recipe_that_is_no_toml_has_the_line_of_its_fault(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    told = refused(str(tmp_path / "mine.toml"))
    assert "mine.toml:3  " in told
    assert " at line " not in told


@pytest.mark.parametrize("end", ["keys = [", "keys = {a = 1", "keys =", 'keys = """', "[keys"])
def test_a_recipe_that_was_cut_off_says_so_at_its_last_line(end: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f"[optimizer]\nlr = 1\n{end}")
    assert "mine.toml:3  Unexpected end of file" in refused(str(tmp_path / "mine.toml"))


def test_a_folder_is_no_recipe_and_names_the_one_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run.toml"
    folder.mkdir()
    assert f"{folder} is a folder, not a recipe" in refused(str(folder))
    (folder / "config.toml").touch()
    assert f"did you mean '{folder}/config.toml'?" in refused(str(folder))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'mine/recipe.toml'?" in refused("mine")


def test_an_installed_name_comes_before_a_file_that_looks_like_it(tmp_path: Path) -> None:
    (tmp_path / "l.toml").touch()
    with pytest.raises(UserError) as error:
        find_recipe("hello.toml", base=tmp_path)
    assert "did you mean 'hello'?" in render(error.value)


@pytest.mark.parametrize(
    "override",
    ["custom." + ".".join("a" * 600) + "=1", f"custom.a={'[' * 60}{']' * 60}", f"a={'[' * 9999}{']' * 9999}"],
)
def test_an_override_that_is_nested_too_deeply_is_refused(override: str) -> None:
    with pytest.raises(UserError) as error:
        parse_overrides([override])
    assert "levels deep" in error.value.problems[0].message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer={lr=1e-3, lrr=2}", "command line  optimizer.lrr: unknown key"),
        ("optimizer.betas[0]=0.5", "give the whole list: optimizer.betas=[...]"),
        ("lr=1e-4", "did you mean 'optimizer.lr'?"),
        ("optimizer.max_iter=3", "did you mean 'trainer.max_iter'?"),
        ("extends=vision_sft_demo", "extends: is read in recipe files alone"),
        ("job.name=true", "got true (true or false); write '\"true\"'"),
        ("job.name=2026-11-26", "got 2026-11-26 (a date); write '\"2026-11-26\"'"),
        ("trainer.max_iter=99999999999999999999", "must be at most 9223372036854775807"),
        ('trainer.max_iter="99999999999999999999"', "must be at most 9223372036854775807"),
        ("trainer.max_rollbacks=-1", "trainer.max_rollbacks: must be at least 1"),
        ("trainer.spike_factor=-2", "trainer.spike_factor: must be at least 0"),
        ("trainer.on_nonfinite=back", "must be one of 'skip', 'rollback', 'stop'"),
    ],
)
def test_an_override_of_the_wrong_shape_says_what_is_right(override: str, words: str) -> None:
    assert words in refused("hello", override)


def test_a_path_below_the_home_folder_is_written_out_except_in_custom() -> None:
    values = {"a": "~/x", "b": "${oc.env:DATA}", "c": "~", "custom": {"d": "~/x"}}
    environment = {"HOME": "/home/me", "DATA": "~/data"}
    filled, problems = interpolate(values, {}, environment.get, datetime.now())
    assert not problems
    assert filled == {"a": "/home/me/x", "b": "/home/me/data", "c": "~", "custom": {"d": "~/x"}}


def test_the_output_root_may_lie_below_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("IMAGINAIRE_OUTPUT_ROOT", "~/runs")
    assert output_root() == Path("/home/me/runs")


def test_ranks_that_are_empty_are_none_and_other_words_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "")
    monkeypatch.setenv("WORLD_SIZE", "")
    assert launched_rank() is None
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "9" * 5000)
    with pytest.raises(UserError, match="WORLD_SIZE is '999"):
        launched_rank()
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="WORLD_SIZE is 'two'"):
        launched_rank()


def test_where_ranks_meet_is_said_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("MASTER_PORT", "99999")
    with pytest.raises(UserError, match=r"(?s)MASTER_ADDR is not set.*MASTER_PORT is '99999'"):
        rendezvous()
    monkeypatch.setenv("MASTER_ADDR", "here")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert (rendezvous().host, rendezvous().port) == ("here", 29500)


def test_what_the_user_says_of_device_memory_is_kept_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
    expandable = "expandable_segments:True"
    for before, after in (({}, {new: expandable}), ({old: "a:1"}, {old: "a:1"}), ({new: "b:2"}, {new: "b:2"})):
        with monkeypatch.context() as patched:
            patched.setattr("os.environ", dict(before))
            prepare_device_memory()
            assert job_environment() == after


def test_an_empty_table_over_a_filled_one_is_refused_since_tables_merge() -> None:
    assert "trainer.callbacks: is an empty table, which changes nothing" in refused("hello", "trainer.callbacks={}")
    load("hello", ["trainer.callbacks.norm_monitor={}"], plugins=PLUGINS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("name = hello", "with text in quotes"),
        ("name: 'x'", "a line is key = value"),
        ("name = None", "and no null"),
        ('name = "hello', "a closing quote may be missing"),
        ("ключ = 1", "a key of other characters than"),
        ('extends = "hello"', ":2  job.extends: unknown key; it stands at the top of the file, above all tables"),
    ],
)
def test_usual_slips_in_a_recipe_say_what_was_likely_meant(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f"[job]\n{line}\n", encoding="utf-8")
    assert words in refused(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("word", ["extend", "extends_", "unst"])
def test_a_misspelt_word_of_the_head_of_a_recipe_gets_its_nearest(word: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'{word} = "hello"\n')
    near = "unset" if word == "unst" else "extends"
    assert f":1  {word}: unknown section; did you mean '{near}'?" in refused(str(tmp_path / "mine.toml"))


def test_a_value_where_a_table_belongs_is_one_problem() -> None:
    with pytest.raises(UserError) as error:
        load("hello", ["trainer=[]", "job=x", "dataloader_val=3"], plugins=PLUGINS)
    assert [problem.key for problem in error.value.problems] == ["job", "trainer", "dataloader_val"]


def test_null_drops_inherited_validation_data() -> None:
    config = load("hello", ["dataloader_val=null", "trainer.run_validation=false"], plugins=PLUGINS)
    assert config.dataloader_val is None


def test_overrides_that_cannot_be_read_are_told_beside_wrong_ones() -> None:
    told = refused("hello", "optimizer.lr", "optimizer.lrr=1", ".x=1")
    for words in ("3 problems", "'optimizer.lr' has no '='", "optimizer.lrr: unknown key", "'.x' is not a dotted key"):
        assert words in told


def test_a_key_explained_with_overrides_needs_a_recipe() -> None:
    told = cosmos("config", "explain", "optimizer.lr", "recipe.toml", code=2).stderr
    assert "add --recipe NAME_OR_FILE" in told


def test_digits_in_a_variable_are_a_name_or_a_number_as_the_key_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB", "12")
    keys = (
        "job.name",
        "optimizer.lr",
        "trainer.seed",
        "dataloader_train.num_workers",
        "optimizer.lr_multipliers.blocks",
    )
    config = load("hello", [f"{key}=${{oc.env:JOB}}" for key in keys], plugins=PLUGINS)
    assert (config.job.name, config.optimizer.lr, config.trainer.seed) == ("12", 12.0, 12)
    assert (config.dataloader_train.num_workers, config.optimizer.lr_multipliers) == (12, {"blocks": 12.0})
