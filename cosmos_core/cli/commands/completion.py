"""`cosmos completion`: completion scripts for shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cosmos_core.plugin.manager import PluginManager

__all__ = ["COMPLETION_VARIABLE", "completion"]

COMPLETION_VARIABLE = "_COSMOS_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    Examples:
      cosmos completion bash >> ~/.bashrc
      cosmos completion fish > ~/.config/fish/completions/cosmos.fish
    """
    plugins: PluginManager = ctx.obj
    assert isinstance(plugins, PluginManager)
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "cosmos", COMPLETION_VARIABLE).source())
