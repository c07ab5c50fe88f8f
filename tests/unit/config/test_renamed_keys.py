"""Keys that were renamed: an error with the new name in recipes and overrides, read as the new key in old runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cosmos_core.config import RunConfig
from cosmos_core.config.compat import RENAMED
from cosmos_core.config.document import read_document
from cosmos_core.config.dump import to_toml
from cosmos_core.config.problems import render
from cosmos_core.config.structure import read_resolved
from cosmos_core.errors import UserError
from cosmos_core.plan.changes import changes
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import load
from tests.command import cosmos

PLUGINS = PluginManager.discover()
RECIPE = "videophy2_demo"
every_key = pytest.mark.parametrize(("old", "new"), RENAMED.items(), ids=str)


def refused(recipe: str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load(recipe, overrides, plugins=PLUGINS)
    return render(error.value)


def old_record(config: RunConfig, folder: Path, old: str, new: str) -> Path:
    """The recorded configuration with one key under its old name."""
    text, count = re.subn(
        rf"^{new.rpartition('.')[2]} = ", f"{old.rpartition('.')[2]} = ", to_toml(config), flags=re.MULTILINE
    )
    assert count
    (folder / "config.toml").write_text(text)
    return folder / "config.toml"


@every_key
def test_an_old_key_on_the_command_line_is_an_error_with_the_new_name(old: str, new: str) -> None:
    assert f"command line  {old}: is now called '{new}'" in refused(RECIPE, f"{old}=1")


def test_an_old_key_in_a_recipe_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'extends = "{RECIPE}"\n[model]\nanswer_tokens = 1\n')
    text = refused(str(tmp_path / "mine.toml"))
    assert "mine.toml:3  model.answer_tokens: is now called 'model.max_new_tokens'" in text


@every_key
def test_an_old_key_that_is_unset_is_an_error_with_file_and_line(old: str, new: str, tmp_path: Path) -> None:
    text = f'extends = "{RECIPE}"\nunset = [\n  "custom.x",\n  "{old}",\n]\n'
    (tmp_path / "mine.toml").write_text(text)
    error = refused(str(tmp_path / "mine.toml"))
    assert f"mine.toml:4  unset[1]: '{old}' is now called '{new}'; rename it" in error
    assert "mine.toml:3  unset[0]: no parent sets 'custom.x'; remove it" in error
    (tmp_path / "child.toml").write_text('extends = "./mine.toml"\n')
    assert "mine.toml:4  unset[1]" in refused(str(tmp_path / "child.toml"))


def test_a_table_without_the_new_key_knows_nothing_of_the_old_one() -> None:
    assert "model.answer_tokens: unknown key" in refused("hello", "model.answer_tokens=1")


@every_key
def test_a_recorded_run_with_an_old_key_reads_as_the_same_run(old: str, new: str, tmp_path: Path) -> None:
    config = load(RECIPE, plugins=PLUGINS)
    record = old_record(config, tmp_path, old, new)
    assert read_resolved(record, PLUGINS.registry) == config
    assert changes(read_document(record).values, config) == ()


def test_a_changed_value_is_compared_under_the_new_name(tmp_path: Path) -> None:
    record = old_record(load(RECIPE, plugins=PLUGINS), tmp_path, old="model.answer_tokens", new="model.max_new_tokens")
    (change,) = changes(read_document(record).values, load(RECIPE, ["model.max_new_tokens=7"], plugins=PLUGINS))
    assert str(change) == "model.max_new_tokens 2 -> 7"


def test_a_wrong_value_under_an_old_key_is_still_refused(tmp_path: Path) -> None:
    record = old_record(load(RECIPE, plugins=PLUGINS), tmp_path, old="model.answer_tokens", new="model.max_new_tokens")
    record.write_text(record.read_text().replace("answer_tokens = 2", 'answer_tokens = "two"'))
    with pytest.raises(UserError, match="expected a whole number"):
        read_resolved(record, PLUGINS.registry)


@every_key
def test_explain_names_the_new_key(old: str, new: str) -> None:
    assert f"it is now called '{new}'" in cosmos("config", "explain", old, code=2).stderr
