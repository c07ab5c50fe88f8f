"""Prints what the tests without torch need: ``python -m tests.light``, one requirement a line.

These are the dependencies of all five distributions less torch and what is of use only with it, and the test tools.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

__all__ = ["requirements"]

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "diffusers", "transformers", "tokenizers", "datasets", "matplotlib"}
TOOLS = {"pytest", "pytest-xdist", "hypothesis", "jsonschema", "hatchling"}


def requirements() -> list[str]:
    """Requirements as the projects state them, without our own distributions."""
    projects = [
        tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        for file in (ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml")))
    ]
    left_out = HEAVY | {project["name"] for project in projects}
    needed = {text for project in projects for text in project["dependencies"] if _name(text) not in left_out}
    return sorted(needed | {text for text in projects[0]["optional-dependencies"]["test"] if _name(text) in TOOLS})


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None
    return match[0]


if __name__ == "__main__":
    print("\n".join(requirements()))
