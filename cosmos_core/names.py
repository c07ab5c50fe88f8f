"""Names: suggestions for misspelt ones, short forms of many, counts, layers of tensors, names of files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from os.path import lexists
from pathlib import Path, PurePosixPath, PureWindowsPath

__all__ = [
    "as_number",
    "by_layer",
    "counted",
    "did_you_mean",
    "is_blank",
    "is_cut_off",
    "is_taken",
    "leads_outside",
    "nearest_part",
    "path_fault",
    "text_fault",
]

_NUMBER = re.compile(r"\b\d+\b")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")

MAX_DIGITS = 18
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095
"""Bytes of a file's or folder's name on common file systems, and of a whole path."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'?"`` for the known name nearest to `name`, or an empty string when none is near.

    One that differs in capitals alone comes first, then one with the same letters, since swapped letters are the
    commonest slip.
    """
    known = list(known)
    capitals = [other for other in known if other.casefold() == name.casefold()]
    matches = capitals or get_close_matches(name, known, n=3, cutoff=0.6)
    swapped = [match for match in matches if sorted(match) == sorted(name)]
    return f"did you mean '{(swapped or matches)[0]}'?" if matches else ""


def nearest_part(part: str, names: Iterable[str]) -> str:
    """As `did_you_mean`, for a part of dotted names: as many words of each as `part` has."""
    words = part.strip(".").count(".") + 1
    split = [name.split(".") for name in names]
    return did_you_mean(
        part, dict.fromkeys(".".join(name[at : at + words]) for name in split for at in range(len(name)))
    )


def by_layer(names: Iterable[str]) -> str:
    """Tensor names, merging those that differ only in numbers: ``layers.*.up.weight (2), head.weight``."""
    counts = Counter(_NUMBER.sub("*", name) for name in names)
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())


def counted(count: int, noun: str) -> str:
    """``"1 frame"``, ``"2 frames"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def is_blank(text: str) -> bool:
    """Whether a text has nothing but spaces and invisible characters."""
    return all(char == " " or not char.isprintable() for char in text)


def is_cut_off(name: str, num_layers: int | None) -> bool:
    """Whether a tensor belongs to a layer past the first `num_layers`; never when that is None."""
    layer = _LAYER.search(name)
    return num_layers is not None and layer is not None and int(layer[1]) >= num_layers


def text_fault(text: str) -> str:
    """Why a text can be neither recorded nor the name of a file: ``"holds a NUL character"``; "" when it can."""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds bytes that are not UTF-8"
    return ""


def path_fault(path: str) -> str:
    """Why no file can have this path; "" when one can."""
    fault = text_fault(path)
    if fault:
        return fault
    if (length := len(path.encode())) > MAX_PATH_BYTES:
        return f"has {length} bytes; a path has at most {MAX_PATH_BYTES}"
    longest = max(len(part.encode()) for part in path.split("/"))
    if longest > MAX_NAME_BYTES:
        return f"has a name of {longest} bytes; a file's name has at most {MAX_NAME_BYTES}"
    return ""


def as_number(text: str) -> int | None:
    """The whole number that a text of digits is; None for other texts, and beyond 18 digits, which count nothing."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def is_taken(path: Path) -> bool:
    """Whether no new folder can have this path: something is there, such as a link that leads nowhere, or above it."""
    return lexists(path) or path.name == ".."


def leads_outside(name: str) -> bool:
    """Whether a name of a file could lead out of the folder that it should lie in."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return not name or "\0" in name or any(path.is_absolute() or path.drive or ".." in path.parts for path in paths)
