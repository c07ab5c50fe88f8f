"""`${oc.env:NAME}`, `${oc.env:NAME,default}`, `${now:FORMAT}` in strings, and `"???"` for a value that must be set."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any

from attrs import frozen

from cosmos_core.config.converter import DIGITS
from cosmos_core.config.document import Provenance, problem_at
from cosmos_core.config.locate import KeyPath, how_to_set
from cosmos_core.config.overrides import parse_value
from cosmos_core.errors import Problem

__all__ = ["MISSING", "interpolate"]

MISSING = "???"

_OPTIONAL_WHEN_MISSING = {("checkpoint", "load_path")}
_PATTERN = re.compile(r"\$\{(oc\.env|now):(\s*[^\s,{}][^{}]*)\}")


@frozen
class _Scope:
    lookup: Callable[[str], str | None]
    now: datetime
    provenance: Provenance
    problems: list[Problem]

    def problem(self, path: KeyPath, message: str, hint: str) -> None:
        self.problems.append(problem_at(path, message, self.provenance, hint))


def interpolate(
    values: dict[str, Any], provenance: Provenance, lookup: Callable[[str], str | None], now: datetime
) -> tuple[dict[str, Any], list[Problem]]:
    """Resolve every string outside ``[custom]``; returns new values and what could not be resolved."""
    scope = _Scope(lookup, now, provenance, [])
    resolved = {key: value if key == "custom" else _walk(value, (key,), scope) for key, value in values.items()}
    return resolved, scope.problems


def _walk(value: Any, path: KeyPath, scope: _Scope) -> Any:
    if isinstance(value, dict):
        return {key: _walk(item, (*path, key), scope) for key, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, (*path, index), scope) for index, item in enumerate(value)]
    if value == MISSING:
        if path not in _OPTIONAL_WHEN_MISSING:
            scope.problem(path, "has no value ('???')", how_to_set(path))
        return None
    if isinstance(value, str):
        value = _string(value, path, scope) if "${" in value else value
        return _in_home(value, scope) if isinstance(value, str) else value
    return value


def _in_home(text: str, scope: _Scope) -> str:
    """A path below ``~/`` as shells write it out, which they do not after ``key=``."""
    home = scope.lookup("HOME") if text.startswith("~/") else None
    return f"{home}{text[1:]}" if home else text


def _string(text: str, path: KeyPath, scope: _Scope) -> Any:
    failed = False

    def replace(match: re.Match[str]) -> str:
        nonlocal failed
        kind, argument = match.groups()
        if kind == "now":
            return scope.now.strftime(argument)
        name, comma, default = argument.partition(",")
        value = scope.lookup(name.strip())
        if value is None and not comma:
            failed = True
            hint = f"export {name}=VALUE, or write ${{oc.env:{name},DEFAULT}}"
            scope.problem(path, f"environment variable {name} is not set", hint)
        return value if value is not None else default.strip()

    result = _PATTERN.sub(replace, text)
    if not failed and "${" in result and "${" in _PATTERN.sub("", text):
        scope.problem(
            path, f"cannot interpolate {text!r}", "known forms: ${oc.env:NAME}, ${oc.env:NAME,default}, ${now:FORMAT}"
        )
    if failed:
        return None
    whole = _PATTERN.fullmatch(text)
    if whole is None or whole[1] == "now":
        return result
    # Digits and dates may be names of files and jobs; where a number belongs, digits are read as one.
    value = parse_value(result)
    digits = result.strip()  # As of an override.
    if DIGITS.fullmatch(digits):
        return digits
    return result if isinstance(value, date | time) else value
