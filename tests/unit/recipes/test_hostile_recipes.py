"""Recipes that no person wrote: nested too deep, absurd numbers, links in a circle, names that no file can have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosmos_core.config.problems import render
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.find import find_recipe
from cosmos_core.recipes.loading import load
from cosmos_core.recipes.peek import peek

PLUGINS = PluginManager.discover()
DEEP = "[" * 100_000


@pytest.mark.parametrize("value", [DEEP, "[" * 500 + "]" * 500, "{a=" * 500 + "1" + "}" * 500, "9" * 5000, "1" * 400])
def test_a_value_that_cannot_be_read_is_one_error_in_a_recipe_and_on_the_command_line(
    tmp_path: Path, value: str
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f'extends = "hello"\n[trainer]\nmax_iter = {value}\n')
    with pytest.raises(UserError) as refused:
        load(str(path), plugins=PLUGINS)
    assert len(render(refused.value)) < 10_000
    with pytest.raises(UserError):
        load("hello", [f"trainer.max_iter={value}"], plugins=PLUGINS)


def test_lists_of_recipes_show_why_one_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(f"a = {DEEP}")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "extends.toml").write_text(f"extends = {json.dumps('x' * 300)}")
    for path in tmp_path.iterdir():
        problem = peek(path).problem
        assert problem is not None
        assert problem.file == str(path)


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b", "\ud800"])
def test_a_name_that_no_recipe_can_have_is_no_recipe(name: str) -> None:
    for text in (name, f"./{name}", f"{name}.toml"):
        with pytest.raises(UserError) as refused:
            find_recipe(text)
        assert render(refused.value).encode()
