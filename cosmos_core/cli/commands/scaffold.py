"""`cosmos plugins new`: writes a plugin package to start from."""

from __future__ import annotations

import re
from pathlib import Path

import click

from cosmos_core.errors import Problem, UserError, writing

__all__ = ["new"]

TEMPLATE = Path(__file__).resolve().parents[1] / "template"
SUFFIX = ".in"


@click.command("new")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write; default: NAME_cosmos.")
def new(name: str, output: Path | None) -> None:
    """Write a plugin package NAME with a model family, a dataset, a callback, a command, a recipe and tests.

    \b
    Examples:
      cosmos plugins new acme
      pip install -e acme_cosmos && cosmos run acme_hello
    """
    folder = output or Path(f"{name}_cosmos")
    _write_package(name, folder)
    click.echo(f"{folder}: `pip install -e {folder}`, then `cosmos run {name}_hello` and `pytest {folder}/tests`")


def _write_package(name: str, folder: Path) -> None:
    """Write the package; raises UserError for an unusable name, or when `folder` exists."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        problem = Problem(message="use lower-case letters, digits and underscores, starting with a letter")
        raise UserError(f"'{name}' cannot be a plugin's name; nothing was written", [problem])
    if folder.exists():
        raise UserError(f"{folder} exists already; nothing was written", [Problem(message="choose another folder")])
    with writing(folder):
        for source in sorted(TEMPLATE.rglob(f"*{SUFFIX}")):
            target = folder / _renamed(str(source.relative_to(TEMPLATE)).removesuffix(SUFFIX), name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_renamed(source.read_text(encoding="utf-8"), name), encoding="utf-8")


def _renamed(text: str, name: str) -> str:
    """`text` of the template, whose package is called acme, with the name replaced."""
    dashed, camel = name.replace("_", "-"), "".join(part.capitalize() for part in name.split("_"))
    text = text.replace("acme-cosmos", f"{dashed}-cosmos").replace("acme", name)
    return text.replace("Acme", camel)
