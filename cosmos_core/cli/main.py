"""The `cosmos` command: a tree of click commands, each imported only when it is used."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from cosmos_core import __version__
from cosmos_core.config.env import disabled_plugins
from cosmos_core.config.problems import render
from cosmos_core.errors import ReportedError, UserError
from cosmos_core.plugin.descriptors import CommandSpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["CommandTree", "main", "root_command"]

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130


class CommandTree(click.Group):
    """A group whose children are the commands below one path, loaded on use."""

    def __init__(self, name: str, specs: list[CommandSpec], depth: int, help: str) -> None:
        super().__init__(name, help=help, no_args_is_help=True)
        self.specs = specs
        self.depth = depth

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands and subgroups."""
        return list(dict.fromkeys(spec.path[self.depth] for spec in self.specs))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command or subgroup of that name."""
        below = [spec for spec in self.specs if spec.path[self.depth] == cmd_name]
        if not below:
            return None
        if len(below[0].path) == self.depth + 1:
            return below[0].command.load()
        words = ", ".join(spec.path[self.depth + 1] for spec in below)
        return CommandTree(cmd_name, below, self.depth + 1, f"Commands: {words}.")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and summaries, from the descriptors alone."""
        rows = [(" ".join(spec.path[self.depth :]), spec.summary) for spec in self.specs]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


HELP = """Fine-tune Cosmos 3 models from recipes; plugins add models, datasets and commands.

\b
Examples:
  cosmos recipes list
  cosmos run vision_sft_demo
  cosmos run vision_sft_nano --nproc 8 optimizer.lr=5e-5
"""


def root_command(plugins: PluginManager) -> click.Group:
    """All commands of the installed plugins."""
    group = CommandTree("cosmos", plugins.registry.all(CommandSpec), 0, HELP)
    return click.version_option(__version__, prog_name="cosmos")(group)


def main() -> NoReturn:
    """Console script. Exit codes: 0 done, 1 bug or failed run, 2 user error, 75 stopped, 130 interrupted."""
    code = _exit_code()
    if "torch" in sys.modules:
        from cosmos_core.launch.hard_exit import hard_exit

        hard_exit(code)
    sys.exit(code)


def _exit_code() -> int:
    try:
        plugins = PluginManager.discover(disabled_plugins())
        code = root_command(plugins)(obj=plugins, standalone_mode=False, prog_name="cosmos")
    except ReportedError as error:
        click.echo(render(error), err=True)
        return USER_ERROR if isinstance(error, UserError) else FAILED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        error.show()
        return USER_ERROR
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    return code if isinstance(code, int) else 0
