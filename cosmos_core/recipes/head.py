"""What stands above the tables of a recipe, checked: all that is wrong there is found, not the first fault alone."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.requirements import Requirement

from cosmos_core.config.compat import RENAMED
from cosmos_core.config.document import Document, Provenance, problem_at
from cosmos_core.config.locate import key_text
from cosmos_core.config.overrides import parse_key
from cosmos_core.errors import Problem
from cosmos_core.names import did_you_mean

__all__ = ["head_problems", "unset_keys"]


def head_problems(document: Document) -> Iterator[Problem]:
    """What is wrong with a file's head in itself, and packages that it needs; `find_parent` checks `extends`."""
    values = document.values
    for key in ("summary", "not_yet"):
        if not isinstance(values.get(key, ""), str):
            yield problem_at((key,), "expected a text in quotes", document.provenance)
    if not isinstance(values.get("published", {}), dict):
        message = "expected a table of keys and their published values"
        yield problem_at(("published",), message, document.provenance)
    entries: Any = values.get("unset", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        yield problem_at(("unset",), "expected a list of dotted keys", document.provenance)
    requires: Any = values.get("requires", [])
    if not isinstance(requires, list):
        message = 'expected a list of requirements, e.g. ["cosmos-vfm>=0.1"]'
        yield problem_at(("requires",), message, document.provenance)
        return
    for index, text in enumerate(requires):
        for message, hint in _lack(text):
            yield problem_at(("requires", index), message, document.provenance, hint)


def _lack(requirement: Any) -> Iterator[tuple[str, str]]:
    """Why a requirement is not met, and what to do; nothing if it is, or is for other systems alone."""
    install = f"pip install '{requirement}'"
    try:
        parsed = Requirement(requirement)
        if parsed.marker is not None and not parsed.marker.evaluate():
            return
        installed = version(parsed.name)
    except (ValueError, TypeError):  # The first one of a marker that compares what cannot be, too.
        yield f"{requirement!r} is not a requirement", ""
    except PackageNotFoundError:
        yield f"{requirement} is not installed", install
    else:
        if not parsed.specifier.contains(installed, prereleases=True):
            yield f"{requirement} is required, {installed} is installed", install


def unset_keys(document: Document, below: Provenance, *, complete: bool) -> tuple[Provenance, list[Problem]]:
    """Where a file sets which keys back, and what is wrong with the others.

    below: of the files that it starts from. complete: whether these are all that there are.
    """
    keys: Provenance = {}
    problems = []
    entries: Any = document.values.get("unset", [])
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if not isinstance(entry, str):
            continue  # Told by `head_problems`.
        try:
            key = parse_key(entry)
        except ValueError as error:
            problems.append(problem_at(("unset", index), str(error), document.provenance, "e.g. 'optimizer.eps'"))
            continue
        if key in below or not complete:
            keys[key] = document.provenance["unset", index]
        elif entry in RENAMED:
            message = f"'{entry}' is now called '{RENAMED[entry]}'"
            problems.append(problem_at(("unset", index), message, document.provenance, "rename it"))
        else:
            hint = did_you_mean(key_text(key), [key_text(path) for path in below]) or "remove it"
            message = f"no parent sets '{key_text(key)}'"
            problems.append(problem_at(("unset", index), message, document.provenance, hint))
    return keys, problems
