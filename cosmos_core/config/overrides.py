"""`key=value` on the command line: the right side is a TOML value, else a bare string."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from cosmos_core.errors import Problem, UserError

__all__ = ["Override", "parse_key", "parse_overrides", "parse_value"]


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


def parse_overrides(arguments: Iterable[str]) -> list[Override]:
    """Parse all of them; leading `--` separators are ignored. Raises UserError naming every bad one."""
    overrides: list[Override] = []
    problems: list[Problem] = []
    for argument in arguments:
        if argument in ("--", ""):
            continue
        sides = _split(argument)
        try:
            if sides is None:
                raise ValueError(f"'{argument}' has no '='")
            overrides.append(Override(parse_key(sides[0].strip()), parse_value(sides[1].strip())))
        except ValueError as error:
            problems.append(
                Problem(message=str(error), file="command line", hint="write key=value, e.g. optimizer.lr=5e-5")
            )
    if problems:
        raise UserError("bad override on the command line; nothing was started", problems)
    return overrides
