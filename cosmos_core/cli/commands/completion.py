"""`cosmos completion`: completion scripts for shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cosmos_core.plugin.manager import PluginManager

__all__ = ["completion"]

COMPLETION_VARIABLE = "_COSMOS_COMPLETE"

_WITHOUT_SPACE = {
    "bash": """\
COMPLETE_of_keys() {
    COMPLETE "$@"
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -o nosort -F COMPLETE_of_keys cosmos
""",
    "zsh": """\
COMPLETE_of_keys() {
    if [[ $words[CURRENT] == *.* && $words[CURRENT] != *=* ]]; then
        compadd() { builtin compadd -S '' "$@" }
    fi
    COMPLETE "$@"
    unfunction compadd 2> /dev/null
}
compdef COMPLETE_of_keys cosmos
""",
}
"""What follows click's script: a value follows its key at once, so no space may be added after "="; fish adds none."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    Examples:
      cosmos completion bash >> ~/.bashrc
      eval "$(cosmos completion zsh)"
      cosmos completion fish > ~/.config/fish/completions/cosmos.fish
    """
    plugins: PluginManager = ctx.obj
    assert isinstance(plugins, PluginManager)
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "cosmos", COMPLETION_VARIABLE)
    click.echo(script.source())
    click.echo(_WITHOUT_SPACE.get(shell, "").replace("COMPLETE", script.func_name), nl=False)
