"""`cosmos plugins`: what is installed and in which state."""

from __future__ import annotations

from collections import Counter

import click

from cosmos_core.cli.output import print_json, print_table
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import list_recipes

__all__ = ["list_plugins"]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_plugins(plugins: PluginManager, as_json: bool) -> None:
    """One row a distribution: its state and what it provides.

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
            "reason": status.reason,
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
    return [f"{count} recipes" if count > 1 else "1 recipe"] if count else []


def _what(row: dict[str, object]) -> str:
    provides = row["provides"]
    assert isinstance(provides, list)
    return str(row["reason"]) or ", ".join(provides) or "nothing"
