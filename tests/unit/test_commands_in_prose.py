"""Commands in READMEs and pages are such that the command line takes them; names in them exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cosmos_core.plugin import CheckpointSpec, PluginManager
from cosmos_core.recipes import list_recipes
from tests.command_examples import arguments_of, check_arguments

ROOT = Path(__file__).resolve().parents[2]
TITLE = "## Coming from the cosmos-framework training scripts"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("plugins/*/README.md"))]
RECIPES = {recipe.name for recipe in list_recipes()}
CHECKPOINTS = {spec.name for spec in PluginManager.discover().registry.all(CheckpointSpec)}
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]*")


def rows() -> Iterator[list[str]]:
    """Cells of the table of README that names our command for each of theirs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(TITLE)[2].partition("\n## ")[0]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells != ["there", "here"]:
            yield cells


def quoted(text: str) -> list[str]:
    """Commands in backticks, with their arguments."""
    return re.findall(r"`(cosmos [a-z][^`]*)`", text.replace("\n", " "))


def indented(text: str) -> list[str]:
    """Commands in indented or fenced blocks."""
    joined = text.replace("\\\n", " ")
    return re.findall(r"^(?: {4}|(?=cosmos ))(?:\w+=\S+ )*(cosmos [a-z].*)$", joined, re.MULTILINE)


def test_every_row_for_those_who_come_from_the_training_scripts_has_commands_that_work() -> None:
    table = list(rows())
    assert len(table) >= 15
    for _, here in table:
        for line in quoted(here):
            for arguments in arguments_of(line):
                check_arguments(arguments)
                names = {"run": RECIPES, "convert": CHECKPOINTS}.get(arguments[0])
                known = names is None or arguments[1] in names or PLACEHOLDER.fullmatch(arguments[1])
                assert known, f"{line}: no '{arguments[1]}'"


LOOKED_FOR = ("launch_sft_vision_nano.sh", "launch_sft_llava_ov.sh", "TAIL_OVERRIDES", "config.yaml", "eval_videophy2")


@pytest.mark.parametrize("word", LOOKED_FOR)
def test_the_table_has_what_people_look_for(word: str) -> None:
    assert any(word in there for there, _ in rows())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_are_taken(page: Path) -> None:
    lines = indented(page.read_text(encoding="utf-8"))
    assert len(lines) >= 15 or page != ROOT / "README.md", "commands are no longer found"
    for line in lines:
        for arguments in arguments_of(line.partition("  #")[0].replace("...", "")):
            if "acme" not in arguments:
                check_arguments(arguments)


def test_a_command_that_is_not_ours_is_noticed() -> None:
    assert indented("    A=b cosmos run x --nprocs 8\n") == ["cosmos run x --nprocs 8"]
    with pytest.raises(click.UsageError):
        check_arguments(arguments_of(quoted("so `cosmos run x --nprocs 8` runs")[0])[0])
