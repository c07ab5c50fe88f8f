"""Command lines in help texts and prose, read as a shell and click would read them; nothing is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache

import click

from cosmos_core.cli.main import root_command
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import list_recipes, resolve

__all__ = ["all_commands", "arguments_of", "check_arguments", "examples"]

_RUN = re.compile(r"outputs/train(?:/\w+){3}")
_EXAMPLES = re.compile(r"Examples:\n((?: *\S.*\n?)+)")


@cache
def _plugins() -> PluginManager:
    return PluginManager.discover()


def all_commands() -> dict[str, click.Command]:
    """Every command and group of every installed plugin by its words; the root is ""."""
    root = root_command(_plugins())
    context = click.Context(root, obj=_plugins())
    return {" ".join(words): command for words, command in _below(root, context, ())}


def _below(
    command: click.Command, context: click.Context, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, f"{words} {name}"
            yield from _below(child, context, (*words, name))


def examples(command: click.Command) -> list[str]:
    """The lines of the block ``Examples:`` of a command's help."""
    match = _EXAMPLES.search((command.help or "").replace("\b", ""))
    return [line.strip() for line in match[1].splitlines() if line.strip()] if match else []


def arguments_of(line: str) -> list[list[str]]:
    """The arguments of each call of `cosmos` in a line of shell, also of ``torchrun ... -m cosmos_core``."""
    line = re.sub(r"[\"']?\$\((.*?)\)[\"']?", r"; \1 ;", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    calls: list[list[str]] = []
    inside = False
    for word in words:
        if word in ("cosmos", "cosmos_core"):
            calls.append([])
            inside = True
        elif set(word) <= set("|&;<>"):
            inside = False
        elif inside:
            calls[-1].append(word)
    return calls


@cache
def _run_directories() -> frozenset[str]:
    """Where the installed recipes run."""
    jobs = (resolve(recipe.name, plugins=_plugins()).config.job for recipe in list_recipes())
    return frozenset(f"outputs/train/{job.project}/{job.group}/{job.name}" for job in jobs)


def check_arguments(arguments: list[str]) -> None:
    """Raises click.UsageError when a command does not take these arguments; files need not exist.

    A run directory must be that of a recipe, but for one that is removed.
    """
    for word in arguments if arguments[:2] != ["runs", "remove"] else ():
        if (run := _RUN.match(word)) and run[0] not in _run_directories():
            raise click.UsageError(f"no recipe runs in {run[0]}")
    command: click.Command = root_command(_plugins())
    context = click.Context(command, info_name="cosmos", obj=_plugins())
    while True:
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                parameter.type.exists = False
        asks_help = not {"-h", "--help"}.isdisjoint(arguments)
        if asks_help and not isinstance(command, click.Group):
            return
        if not isinstance(command, click.Group):
            command.make_context(context.info_name, list(arguments), parent=context.parent, obj=_plugins())
            return
        if not arguments or arguments[0] in ("-h", "--help"):
            return
        name, child, arguments = command.resolve_command(context, list(arguments))
        assert child is not None
        context = click.Context(child, parent=context, info_name=name, obj=_plugins())
        command = child
