"""The `cosmos` command, and its exit codes."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from cosmos_core import __version__
from cosmos_core.cli.tree import CommandTree
from cosmos_core.config.env import disabled_plugins, keep_folder_from_children
from cosmos_core.config.problems import render
from cosmos_core.console.streams import steady_streams
from cosmos_core.errors import Problem, ReportedError, UserError, file_of
from cosmos_core.names import text_fault
from cosmos_core.plugin.descriptors import CommandSpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["main", "root_command"]

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130
FIXABLE = (
    errno.ENAMETOOLONG, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOSPC,
    errno.EDQUOT,
)  # fmt: skip
"""Errors of the system that name the path to change."""
NOT_TEXT = "rename the file or folder; where the locale is not UTF-8, set PYTHONUTF8=1"


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
    steady_streams()
    keep_folder_from_children()
    code = _exit_code()
    # After a run, too: while the interpreter is finalized, a repeated signal would end it with another code.
    if "torch" in sys.modules or "cosmos_core.launch" in sys.modules:
        from cosmos_core.launch.hard_exit import hard_exit

        hard_exit(code)
    sys.exit(code)


def _exit_code() -> int:
    try:
        _check_arguments(sys.argv[1:])
        _check_folder()
        plugins = PluginManager.discover(disabled_plugins())
        code = root_command(plugins)(obj=plugins, standalone_mode=False, prog_name="cosmos")
    except ReportedError as error:
        click.echo(render(error), err=True)
        return USER_ERROR if isinstance(error, UserError) else FAILED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and "." in error.option_name:
            message = f"{error.message} A setting has no dashes in front: key=value, e.g. optimizer.lr=5e-5"
            error = click.NoSuchOption(error.option_name, message, ctx=error.ctx)
        error.show()
        return USER_ERROR
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in FIXABLE:
            raise
        click.echo(f"error: {error.strerror}: {file_of(error, Path('standard output'))}", err=True)
        return USER_ERROR
    return code if isinstance(code, int) else 0


def _check_arguments(arguments: list[str]) -> None:
    """Raises UserError for arguments that cannot be recorded."""
    faults = [(argument, text_fault(argument)) for argument in arguments]
    problems = [Problem(message=f"{text!r} {fault}", hint=NOT_TEXT) for text, fault in faults if fault]
    if problems:
        raise UserError("an argument cannot be used; nothing was started", problems)


def _check_folder() -> None:
    """Raises UserError where the current folder was removed, also when there is a new one of its name."""
    try:
        os.getcwd()
    except FileNotFoundError:
        problem = Problem(
            message="it was removed, or replaced", hint="cd to a folder that is there, also where it has the same name"
        )
        raise UserError("the current folder is gone; nothing was started", [problem]) from None
