"""The command tree: groups whose commands are imported only when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cosmos_core.names import did_you_mean
from cosmos_core.plugin.descriptors import CommandSpec

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["CommandTree"]

_HEADINGS = ("train", "data", "models", "plugins", "configuration")
"""Groups of the first help page, in its order; those that only plugins name come last."""


class CommandTree(click.Group):
    """A group whose children are the commands below one path, loaded on use."""

    def __init__(self, name: str, specs: list[CommandSpec], depth: int, help: str) -> None:
        super().__init__(
            name, help=help, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
        )
        self.specs = specs
        self.depth = depth

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands and subgroups."""
        return list(dict.fromkeys(spec.path[self.depth] for spec in self.specs))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command or subgroup of that name."""
        here = [spec for spec in self.specs if spec.path[self.depth] == cmd_name]
        below = [spec for spec in here if len(spec.path) > self.depth + 1]
        own = next((spec for spec in here if spec not in below), None)
        if below:
            help = own.command.load().help if own else _plain_help(below[0], self.depth + 1)
            return CommandTree(cmd_name, below, self.depth + 1, help)
        return own.command.load() if own else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a misspelt name gets a suggestion."""
        hint = "" if ctx.resilient_parsing else did_you_mean(args[0], self.list_commands(ctx))
        if hint and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command '{args[0]}'; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and summaries, from the descriptors alone; the first page has a heading for each group."""
        groups = dict.fromkeys([*_HEADINGS, *(spec.group for spec in self.specs)] if self.depth == 0 else ["commands"])
        width = max(len(self._words(spec)) for spec in self.specs)
        for group in groups:
            rows = [
                (self._words(spec).ljust(width), spec.summary)
                for spec in self.specs
                if spec.group == group or self.depth
                if not self._is_group(spec)
            ]
            if rows:
                with formatter.section(group.capitalize()):
                    formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names with summaries; unlike click's own, this imports no command."""
        from click.shell_completion import CompletionItem

        summaries = {spec.path[self.depth]: spec.summary for spec in reversed(self.specs)}
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [
            *(CompletionItem(name, help=summaries[name]) for name in names),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def _words(self, spec: CommandSpec) -> str:
        return " ".join(spec.path[self.depth :])

    def _is_group(self, spec: CommandSpec) -> bool:
        length = len(spec.path)
        return any(other.path[:length] == spec.path and len(other.path) > length for other in self.specs)


def _plain_help(spec: CommandSpec, depth: int) -> str:
    """Help of a group that no plugin introduces. spec: its first command."""
    return f"Commands of `cosmos {' '.join(spec.path[:depth])}`.\n\n\b\nExamples:\n  cosmos {spec.name} --help\n"
