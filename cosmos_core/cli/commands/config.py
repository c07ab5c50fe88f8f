"""`cosmos config`: the keys of recipes, for people and for editors."""

from __future__ import annotations

import click

from cosmos_core.cli.output import print_json
from cosmos_core.plugin.descriptors import ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager

__all__ = ["explain", "reference", "schema"]


@click.command("schema")
@click.option("--task", help="Only this model family, e.g. vfm.")
@click.pass_obj
def schema(plugins: PluginManager, task: str | None) -> None:
    """Print the JSON Schema of a recipe, with the sections of every installed plugin.

    \b
    Example:
      cosmos config schema --task vfm > recipe.schema.json
    """
    from cosmos_core.config.schema import json_schema

    if task is not None:
        plugins.registry.get(ModelFamilySpec, task)
    print_json(json_schema(plugins.registry.sections(), task=task))


@click.command("reference")
@click.pass_obj
def reference(plugins: PluginManager) -> None:
    """Print every key of every installed section as Markdown."""
    from cosmos_core.config.reference import reference_page

    click.echo(reference_page(plugins.registry.sections()), nl=False)


@click.command("explain")
@click.argument("key")
@click.option("--recipe", help="Also print the value this recipe gives the key, and where it was written.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("overrides", nargs=-1)
@click.pass_obj
def explain(plugins: PluginManager, key: str, recipe: str | None, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Explain KEY: type, default, bounds, meaning, owner, and its current value.

    \b
    Examples:
      cosmos config explain optimizer.lr
      cosmos config explain model.ema.rate --recipe vision_sft_nano
    """
    from cosmos_core.config.explain import explain_key
    from cosmos_core.recipes.value import value_in

    present = value_in(recipe, overrides, key, plugins=plugins) if recipe else None
    facts = explain_key(key, plugins.registry.sections(), present)
    if as_json:
        print_json(facts)
        return
    for number, entry in enumerate(facts):
        if number:
            click.echo()
        for name, text in entry.items():
            click.echo(f"{name}: {text}")
