"""Help of every command of every plugin: examples that work, groups, -h."""

from __future__ import annotations

import click
import pytest

from cosmos_core.cli.tree import CommandTree
from cosmos_core.plugin import CommandSpec
from tests.command import cosmos
from tests.command_examples import all_commands, arguments_of, check_arguments, examples

COMMANDS = all_commands()


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words or "cosmos")
def test_every_help_has_examples_that_the_command_line_takes(words: str) -> None:
    lines = examples(COMMANDS[words])
    calls = [arguments for line in lines for arguments in arguments_of(line)]
    assert calls, f"cosmos {words}: the help has no block 'Examples:' with a command line"
    assert any(" ".join(arguments).startswith(words) for arguments in calls), f"no example of cosmos {words}"
    for arguments in calls:
        check_arguments(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "hello", "--dryrun"],
        ["recipes", "lst"],
        ["config", "explain"],
        ["export", "x", "-o"],
        ["eval", "outputs/train/cosmos3/sft/llava_ov"],
    ],
    ids=" ".join,
)
def test_an_example_that_does_not_work_is_noticed(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        check_arguments(arguments)


def test_calls_are_found_in_a_line_of_shell() -> None:
    line = "A=b cosmos plugins list --json | less && torchrun --nproc-per-node 8 -m cosmos_core run hello > out"
    assert arguments_of(line) == [["plugins", "list", "--json"], ["run", "hello"]]


def test_every_command_has_a_short_help_option() -> None:
    for command in (["-h"], ["recipes", "-h"], ["recipes", "list", "-h"], ["data", "prepare", "bridge", "-h"]):
        assert "Usage:" in cosmos(*command).stdout


def test_the_first_page_groups_commands_and_puts_those_of_plugins_under_their_own_heading() -> None:
    specs = [
        CommandSpec(path=("acme", "score"), summary="Score a run", command="acme.cli:score"),
        CommandSpec(path=("acme", "serve"), summary="Serve a run", command="acme.cli:serve", group="serving"),
        CommandSpec(path=("run",), summary="Run", command="acme.cli:run", group="train"),
    ]
    tree = CommandTree("cosmos", specs, 0, "Help.")
    text = tree.get_help(click.Context(tree))
    assert "Train:\n  run         Run\n\nPlugins:\n  acme score  Score a run\n\nServing:\n  acme serve" in text
    group = tree.get_command(click.Context(tree), "acme")
    assert group is not None
    assert examples(group) == ["cosmos acme score --help"]
    assert "Commands:\n  score  Score a run\n  serve  Serve a run" in group.get_help(click.Context(group))


def test_a_group_is_introduced_by_its_own_help() -> None:
    text = cosmos("recipes").stdout
    assert "List, show, copy and check recipes." in text
    assert "check  Check recipe files" in text


@pytest.mark.parametrize(("words", "meant"), [(["rn"], "run"), (["recipes", "lst"], "list")])
def test_a_misspelt_command_gets_a_suggestion(words: list[str], meant: str) -> None:
    assert f"did you mean '{meant}'?" in cosmos(*words, code=2).stderr
