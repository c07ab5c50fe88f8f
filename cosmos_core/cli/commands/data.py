"""`cosmos data`: writes datasets to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cosmos_core.cli.complete import items
from cosmos_core.names import did_you_mean
from cosmos_core.plugin.descriptors import DatasetSpec
from cosmos_core.plugin.manager import PluginManager

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["data", "prepare"]


@click.group("data")
def data() -> None:
    """Write datasets to disk, prepare them for training, and look at what training reads.

    \b
    Examples:
      cosmos data prepare bridge --synthetic 768 -o examples/data/bridge_synthetic
      cosmos data check my_clips
      cosmos data show my_dialogs.jsonl -o shown
      cosmos data prepare --help
    """


class _Datasets(click.Group):
    """One subcommand for each dataset whose plugin can prepare it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_summaries(ctx))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        plugins: PluginManager = ctx.obj
        reference = plugins.registry.get(DatasetSpec, cmd_name).prepare
        return None if reference is None else reference.load()

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [*items(_summaries(ctx), incomplete), *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a misspelt dataset gets a suggestion."""
        names = self.list_commands(ctx)
        hint = "" if ctx.resilient_parsing or args[0] in names else did_you_mean(args[0], names)
        if hint:
            ctx.fail(f"No such dataset '{args[0]}'; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        summaries = _summaries(ctx)
        if not summaries:
            formatter.write_text("No installed plugin prepares a dataset.")
            return
        with formatter.section("Datasets"):
            formatter.write_dl(list(summaries.items()))


def _summaries(ctx: click.Context) -> dict[str, str]:
    """Datasets that can be prepared."""
    plugins: PluginManager = ctx.obj
    return {spec.name: spec.summary for spec in plugins.registry.all(DatasetSpec) if spec.prepare is not None}


@click.group("prepare", cls=_Datasets)
def prepare() -> None:
    """Write a dataset in the layout its recipes read.

    \b
    Examples:
      cosmos data prepare bridge --synthetic 768 -o examples/data/bridge_synthetic
      cosmos data prepare bridge --help
    """
