"""Small distributions written to disk and installed with pip, as a stranger's would be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

__all__ = ["HEADER", "install", "write_plugin", "write_recipes"]

HEADER = """\
from cosmos_core.plugin import CommandSpec, DatasetSpec, hookimpl

COSMOS_API = 1

"""


def _project(name: str, version: str, entry_points: str) -> str:
    return dedent(
        f"""\
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "{name.replace("_", "-")}"
        version = "{version}"

        {entry_points}

        [tool.hatch.build.targets.wheel]
        packages = ["{name}"]
        """
    )


def write_plugin(
    root: Path, name: str, module: str, *, version: str = "1.0", files: Mapping[str, str] | None = None
) -> Path:
    """A distribution with one plugin module; returns its folder."""
    folder = root / name
    (folder / name).mkdir(parents=True)
    entry = f'[project.entry-points."cosmos.plugins"]\n{name.removeprefix("acme_")} = "{name}.plugin"'
    (folder / "pyproject.toml").write_text(_project(name, version, entry))
    for file, text in {"__init__.py": "", "plugin.py": module, **(files or {})}.items():
        (folder / name / file).write_text(dedent(text))
    return folder


def write_recipes(root: Path, name: str, recipes: Mapping[str, str]) -> Path:
    """A distribution with recipes alone, without any Python."""
    folder = root / name
    (folder / name / "recipes").mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    entry = f'[project.entry-points."cosmos.recipes"]\n{name} = "{name}.recipes"'
    (folder / "pyproject.toml").write_text(_project(name, "1.0", entry))
    for recipe, text in recipes.items():
        (folder / name / "recipes" / f"{recipe}.toml").write_text(text)
    return folder


def install(target: Path, *folders: Path) -> dict[str, str]:
    """Build and install into `target`; returns the environment that makes it visible."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--target", str(target), *(str(folder) for folder in folders)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {"PYTHONPATH": str(target)}
