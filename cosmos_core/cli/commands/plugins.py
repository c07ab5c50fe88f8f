"""`cosmos plugins`: what is installed and in which state."""

from __future__ import annotations

from collections import Counter

import click

from cosmos_core.cli.complete import plugin_names
from cosmos_core.cli.options import json_option
from cosmos_core.cli.output import print_json, print_rows, print_table
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import counted, did_you_mean
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.plugin.status import PluginStatus
from cosmos_core.recipes.find import list_recipes
from cosmos_core.recipes.peek import peek

__all__ = ["check", "hooks", "list_plugins", "plugins", "show"]


@click.group("plugins")
def plugins() -> None:
    """Show what installed plugins provide, check them, and start one of your own.

    \b
    Examples:
      cosmos plugins list
      cosmos plugins show vfm
      cosmos plugins new acme
    """


@click.command("list")
@json_option
@click.pass_obj
def list_plugins(plugins: PluginManager, as_json: bool) -> None:
    """One row per distribution: its state, and how much it provides; `cosmos plugins show` names it all.

    \b
    Examples:
      cosmos plugins list
      COSMOS_DISABLE_PLUGINS=videophy cosmos plugins list --json
    """
    recipes = Counter(recipe.distribution for recipe in list_recipes())
    rows: list[dict[str, object]] = [
        {
            "plugin": status.candidate.name,
            "distribution": status.candidate.distribution,
            "version": status.candidate.version,
            "state": status.state,
            "reason": status.reason or status.warning,
            "provides": [*status.provides, *_recipes(recipes.pop(status.candidate.distribution, 0))],
        }
        for status in plugins.statuses
    ]
    rows += [
        {"plugin": "", "distribution": name, "version": "", "state": "ok", "reason": "", "provides": _recipes(count)}
        for name, count in recipes.items()
    ]
    if as_json:
        print_json(rows)
        return
    columns = ["plugin", "distribution", "version", "state", "provides"]
    print_table(columns, [[str(row[name]) for name in columns[:-1]] + [_what(row)] for row in rows])


def _recipes(count: int) -> list[str]:
    return [counted(count, "recipe")] if count else []


def _what(row: dict[str, object]) -> str:
    """Why a plugin is not ok, or what it provides: one contribution by name, several as a number."""
    provides = row["provides"]
    assert isinstance(provides, list)
    kinds: dict[str, list[str]] = {}
    for name in provides:
        kind = name.partition(" ")[0]
        kinds.setdefault(name if kind.isdigit() else kind, []).append(name)
    counts = [
        names[0] if len(names) == 1 else f"{len(names)} {kind.removesuffix('s')}s" for kind, names in kinds.items()
    ]
    return str(row["reason"]) or ", ".join(counts) or "nothing"


@click.command("show")
@click.argument("name", shell_complete=plugin_names)
@json_option
@click.pass_obj
def show(plugins: PluginManager, name: str, as_json: bool) -> None:
    """Print what the plugin NAME provides, with a summary of each.

    \b
    Examples:
      cosmos plugins show core
    """
    status = _status(plugins, name)
    if status.state != "ok":
        raise UserError(f"plugin '{name}' is {status.state}", [Problem(message=status.reason)])
    columns = ["kind", "name", "summary"]
    rows = [[spec.kind, spec.name, spec.summary] for spec in plugins.registry.of(status.candidate)]
    installed = list_recipes()
    rows += [
        ["recipe", recipe.name, peek(recipe.path, installed).text]
        for recipe in installed
        if recipe.distribution == status.candidate.distribution
    ]
    print_rows(columns, rows, as_json)


@click.command("hooks")
def hooks() -> None:
    """Print what a plugin may implement, hook by hook, as Markdown.

    \b
    Examples:
      cosmos plugins hooks | less
    """
    from cosmos_core.plugin.docs import hooks_page

    click.echo(hooks_page(), nl=False)


@click.command("check")
@click.argument("name", required=False, shell_complete=plugin_names)
@json_option
@click.pass_obj
def check(plugins: PluginManager, name: str | None, as_json: bool) -> int:
    """Load everything that the plugin NAME (or every plugin) refers to, and check its types.

    Exit code 1 when something does not.

    \b
    Examples:
      cosmos plugins check vfm
    """
    from cosmos_core.testing.contributions import check_contribution

    report: list[dict[str, object]] = []
    for status in plugins.statuses if name is None else [_status(plugins, name)]:
        faults = [fault for spec in plugins.registry.of(status.candidate) for fault in check_contribution(spec)]
        if status.state in ("broken", "outdated"):
            faults.append(status.reason)
        plugin, state = status.candidate.name, status.state
        report.append({"plugin": plugin, "state": state, "warning": status.warning, "faults": faults})
        if not as_json:
            click.echo(f"{plugin}: " + ("; ".join(faults) if faults else status.warning or state))
    if as_json:
        print_json(report)
    return 1 if any(row["faults"] for row in report) else 0


def _status(plugins: PluginManager, name: str) -> PluginStatus:
    """The status of the plugin of that name. Raises UserError when none is installed."""
    for status in plugins.statuses:
        if status.candidate.name == name:
            return status
    hint = did_you_mean(name, [status.candidate.name for status in plugins.statuses])
    hint = hint or "`cosmos plugins list` shows all"
    raise UserError(f"no plugin '{name}'", [Problem(message="none of that name is installed", hint=hint)])
