"""`cosmos config`: the keys of recipes, for people and for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cosmos_core.cli.complete import key_names, key_values, recipes_and_files, task_names
from cosmos_core.cli.options import json_option
from cosmos_core.cli.output import print_facts, print_json, print_table
from cosmos_core.plugin.descriptors import ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager

if TYPE_CHECKING:
    from cosmos_core.config import RunConfig

__all__ = ["config", "explain", "reference", "schema"]


@click.group("config")
def config() -> None:
    """Look up the keys that recipes hold, for people and for editors.

    \b
    Examples:
      cosmos config explain optimizer.lr
      cosmos config explain lora
      cosmos config schema > recipe.schema.json
    """


@click.command("schema")
@click.option("--task", shell_complete=task_names, help="Only this model family, e.g. vfm.")
@click.pass_obj
def schema(plugins: PluginManager, task: str | None) -> None:
    """Print the JSON Schema of a recipe, with the sections of every installed plugin.

    \b
    Examples:
      cosmos config schema --task vfm > recipe.schema.json
    """
    from cosmos_core.config.schema import json_schema

    if task is not None:
        plugins.registry.get(ModelFamilySpec, task)
    print_json(json_schema(plugins.registry.sections(), task=task))


@click.command("reference")
@click.pass_obj
def reference(plugins: PluginManager) -> None:
    """Print every key of every installed section as Markdown.

    \b
    Examples:
      cosmos config reference | less
    """
    from cosmos_core.config.reference import reference_page

    click.echo(reference_page(plugins.registry.sections()), nl=False)


@click.command("explain")
@click.argument("key", shell_complete=key_names)
@click.option(
    "--recipe",
    shell_complete=recipes_and_files,
    help="Also print the value this recipe gives the key, and where it was written.",
)
@json_option
@click.argument("overrides", nargs=-1, shell_complete=key_values)
@click.pass_obj
def explain(plugins: PluginManager, key: str, recipe: str | None, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Explain KEY: type, default, bounds, meaning, owner, and its current value.

    A word that is no key finds the keys whose name or description contains it.

    \b
    Examples:
      cosmos config explain optimizer.lr
      cosmos config explain lora
      cosmos config explain model.ema.rate --recipe vision_sft_nano
    """
    from cosmos_core.config.explain import explain_key, listed
    from cosmos_core.config.search import search_keys
    from cosmos_core.recipes.loading import resolve
    from cosmos_core.recipes.value import value_in

    if overrides and recipe is None:
        raise click.UsageError(f"{overrides[0]} has no effect without a recipe: add --recipe NAME_OR_FILE")
    resolved = resolve(recipe, overrides, plugins=plugins) if recipe is not None else None
    sections = plugins.registry.sections()
    matches = search_keys(listed(key), sections)
    names = list(dict.fromkeys(match.name for match in matches)) or [key]
    exact = listed(key) in names or not matches
    facts = [
        fact
        for name in ([key] if exact else names)
        for fact in explain_key(name, sections, value_in(resolved, name) if resolved else None)
    ]
    if resolved is not None:
        facts = _of_recipe(facts, resolved.config)
    if as_json:
        print_json(facts)
    elif exact:
        for number, fact in enumerate(facts):
            if number:
                click.echo()
            print_facts(fact, as_json=False)
    else:
        _print_matches(facts)


def _of_recipe(facts: list[dict[str, str]], config: RunConfig) -> list[dict[str, str]]:
    """Those of the recipe's own family and datasets; all of them where it has none of these."""
    types = {data.type for data in config.datasets.values()}
    own = {"", f"task {config.job.task}", *(f"dataset {name}" for name in types)}
    return [fact for fact in facts if fact.get("when", "") in own] or facts


def _print_matches(facts: list[dict[str, str]]) -> None:
    """A row for each key; sections that explain it alike share one."""
    columns = ["key", "value" if "value" in facts[0] else "default", "for", "meaning"]
    rows: dict[tuple[str, str, str], list[str]] = {}
    for fact in facts:
        rows.setdefault((fact["key"], fact[columns[1]], fact.get("meaning", "")), []).append(fact.get("when", ""))
    print_table(columns, [[name, value, ", ".join(when), meaning] for (name, value, meaning), when in rows.items()])
