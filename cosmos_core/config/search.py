"""Finds keys by a word in their names or descriptions."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from cosmos_core.config.compat import RENAMED
from cosmos_core.config.reference import Key, Section, keys_of
from cosmos_core.errors import Problem, UserError

__all__ = ["search_keys"]

NEAREST = 3


def search_keys(word: str, sections: Iterable[Section]) -> list[Key]:
    """Keys whose name or description contains `word`, best first; none for former names and unknown dotted ones.

    Case, "-" and "_" do not count. Raises UserError with the nearest keys when no key contains a plain word.
    """
    if word in RENAMED:
        return []
    plain = _plain(word)
    keys = [key for section in sections for key in keys_of(section)]
    ranks = [(_rank(key, plain, word.lower()), index) for index, key in enumerate(keys)]
    matches = [keys[index] for rank, index in sorted(ranks) if rank < _NO_MATCH]
    if matches or "." in word:
        return matches
    parts = {_plain(part): key.name for key in reversed(keys) for part in key.name.split(".")}
    nearest = [parts[part] for part in get_close_matches(plain, parts, n=NEAREST, cutoff=0.5)]
    hint = f"nearest: {', '.join(dict.fromkeys(nearest))}" if nearest else "`cosmos config reference` lists all keys"
    raise UserError(f"no key contains '{word}'", [Problem(message="neither its name nor its description", hint=hint)])


_NO_MATCH = 4


def _plain(text: str) -> str:
    return text.lower().replace("-", "").replace("_", "")


def _rank(key: Key, plain: str, word: str) -> int:
    """0 where a part of the name is the word, 1 where one begins with it, 2 and 3 where the name or help has it."""
    name = _plain(key.name)
    parts = name.split(".")
    places = (
        plain in parts,
        any(part.startswith(plain) for part in parts),
        plain in name,
        word in key.help.lower(),
    )
    return places.index(True) if True in places else _NO_MATCH
