"""`key=value` on the command line: the right side is a TOML value, else a bare string."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from cosmos_core.errors import Problem, UserError

__all__ = ["Override", "parse_key", "parse_overrides", "parse_value"]

MAX_DEPTH = 50
"""Tables and lists inside each other; a recorded configuration must be readable again, which ends at 100."""
_ELEMENT = re.compile(r"([^\[]+)\[\d+\].*")


@frozen
class Override:
    """One assignment; `path` is the key, split at its dots."""

    path: tuple[str, ...]
    value: Any


def parse_value(text: str) -> Any:
    """A TOML value, `null` as None, anything else as the string it is."""
    if text == "null":
        return None
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def parse_key(text: str) -> tuple[str, ...]:
    """A dotted key; parts with dots of their own are quoted. Raises ValueError."""
    if "\n" in text:
        raise ValueError(f"{text!r} is not a dotted key")
    try:
        nested: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"'{text}' is not a dotted key") from error
    path: list[str] = []
    while isinstance(nested, dict):
        ((key, nested),) = nested.items()
        path.append(key)
    return tuple(path)


def _split(text: str) -> tuple[str, str] | None:
    """Text before and after the first equals sign outside quotes."""
    quote = ""
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "=":
            return text[:at], text[at + 1 :]
    return None


def _assignment(argument: str) -> Override:
    """Raises ValueError."""
    sides = _split(argument)
    if sides is None:
        raise ValueError(f"'{argument}' has no '='")
    try:
        override = Override(parse_key(sides[0].strip()), parse_value(sides[1].strip()))
        deep = len(override.path) + _depth(override.value) > MAX_DEPTH
    except RecursionError:
        deep = True
    if deep:
        raise ValueError(f"'{argument[:MAX_DEPTH]}...' is nested more than {MAX_DEPTH} levels deep")
    return override


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _hint(argument: str) -> str:
    element = _ELEMENT.fullmatch(argument.partition("=")[0].strip())
    return f"give the whole list: {element[1]}=[...]" if element else "write key=value, e.g. optimizer.lr=5e-5"


def parse_overrides(arguments: Iterable[str]) -> list[Override]:
    """Parse all of them; leading `--` separators are ignored. Raises UserError naming every bad one."""
    overrides: list[Override] = []
    problems: list[Problem] = []
    for argument in arguments:
        if argument in ("--", ""):
            continue
        try:
            overrides.append(_assignment(argument))
        except ValueError as error:
            problems.append(Problem(message=str(error), file="command line", hint=_hint(argument)))
    if problems:
        raise UserError("bad override on the command line; nothing was started", problems)
    return overrides
